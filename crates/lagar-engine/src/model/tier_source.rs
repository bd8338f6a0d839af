//! A tier's weights as a model computes with them.

use std::ops::Range;

use lagar_format::{Coding, Dtype, Region, TensorRecord};
use lagar_kernels::Cpu;

use super::linear::{Linear, Weight};
use super::source::Source;
use crate::EngineError;
use crate::checkpoint::read_f32;
use crate::exact::ExactTensor;
use crate::spec::LinearSpec;
use crate::stored::{Form, PartBytes, Spare, Take, Tier, element_range};

/// One tier of a file, with what turns its codes into weights.
pub(super) struct TierSource<'a, P> {
    pub(super) tier: Tier<'a, P>,
    /// What decodes the weights of tier `full`, and memory for them.
    pub(super) decode: Option<(&'a Cpu, &'a Spare)>,
}

impl<P: PartBytes> TierSource<'_, P> {
    /// Rows of a matrix, without the bias.
    pub(super) fn rows(
        &self,
        spec: &LinearSpec,
        rows: Range<usize>,
    ) -> Result<Linear, EngineError> {
        self.taken(spec, &Take::Rows(rows))
    }

    fn taken(&self, spec: &LinearSpec, take: &Take) -> Result<Linear, EngineError> {
        let name = &spec.weight;
        let record = self.tier.record(name, &[spec.outputs, spec.inputs])?;
        let weight = match self.tier.form(record)? {
            Form::Linear(transform, stages) => {
                Weight::Pressed(self.tier.pressed(record, transform, stages, take)?)
            }
            form => {
                let (dtype, region) = self.elements(record, form, take)?;
                Weight::Dense { dtype, region }
            }
        };
        Ok(Linear {
            outputs: take.rows(spec.outputs).len(),
            inputs: spec.inputs,
            weight,
            bias: None,
        })
    }

    /// The elements of a tensor that is not a pressed linear, and their type.
    fn elements(
        &self,
        record: &TensorRecord,
        form: Form<'_>,
        take: &Take,
    ) -> Result<(Dtype, Region), EngineError> {
        let name = &record.name;
        let (dtype, region) = match form {
            Form::Raw(dtype, part) => {
                let range = element_range(record, dtype, take);
                (dtype, self.tier.parts.range(part, range)?)
            }
            Form::Blob(dtype, blob) => {
                let range = element_range(record, dtype, take);
                if blob.coding == Coding::Raw {
                    (dtype, self.tier.parts.range(blob.part, range)?)
                } else {
                    let part = self.tier.parts.part(blob.part)?;
                    let bytes = self.tier.stored.container().unpack(blob, &part)?;
                    let rows = bytes.slice(range);
                    (dtype, rows.expect("an index was checked for its lengths"))
                }
            }
            Form::Coded(dtype, of) => {
                let (cpu, spare) = self.decode.expect("decoding was prepared for tier full");
                let tensor = ExactTensor::open(&self.tier, of, take)?;
                let mut out = spare.take(tensor.bytes());
                tensor.decode_into(cpu, &mut out)?;
                (dtype, Region::from_vec(out))
            }
            Form::Linear(..) => {
                let problem = "is a vector, but stored as a linear";
                return Err(self.tier.stored.fault(name, problem));
            }
        };
        self.tier.computable(name, dtype)?;
        Ok((dtype, region))
    }
}

impl<P: PartBytes> Source for TierSource<'_, P> {
    fn matrix(&self, spec: &LinearSpec) -> Result<Linear, EngineError> {
        self.taken(spec, &Take::All)
    }

    fn vector(&self, name: &str, width: usize) -> Result<Vec<f32>, EngineError> {
        let record = self.tier.record(name, &[width])?;
        let form = self.tier.form(record)?;
        let (dtype, bytes) = self.elements(record, form, &Take::All)?;
        let mut out = vec![0.0; width];
        read_f32(dtype, &bytes, 0, &mut out);
        Ok(out)
    }
}
