//! The fast paths of lagar: multiplication, encoding and float kernels, with run-time dispatch.
