//! Conversations as the text that a model was trained to see.

mod calendar;
mod environment;
mod python_json;
mod template;

pub use calendar::CalendarTime;
pub use template::{ChatTemplate, Message, RenderOptions};
