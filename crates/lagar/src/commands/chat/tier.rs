//! `/tier`: another quality level of the file, in the middle of a conversation.

use super::Chat;
use crate::terminal::{bytes, duration};
use std::sync::Arc;
use std::time::Instant;

impl Chat<'_> {
    /// Says which tier runs and which could.
    pub(super) fn show_tiers(&self) {
        let model = self.speaker.model();
        self.messages.say(&match model.tier() {
            None => "a checkpoint folder has no tiers; its own weights run".to_owned(),
            Some(tier) => format!(
                "tier {tier} runs; the file holds {}",
                model.tiers().join(", ")
            ),
        });
    }

    /// Goes on at another tier. Where that fails, everything is as it was.
    pub(super) fn change_tier(&mut self, tier: &str) -> anyhow::Result<()> {
        if self.speaker.model().tier() == Some(tier) {
            self.messages.say(&format!("tier {tier} runs already"));
            return Ok(());
        }
        let started = Instant::now();
        let model = self.speaker.model().at_tier(tier, &self.options)?;
        let (size, streamed) = (model.file_bytes(), model.streaming().is_some());
        let drafted = self.speaker.drafting();
        self.speaker.set_model(Arc::new(model))?;

        let how = if streamed {
            let resident = self.options.resident.as_deref().unwrap_or_default();
            format!("what it adds to {resident} is read from the disk for every pass")
        } else {
            match size.saturating_sub(self.read) {
                0 => "nothing had to be read".to_owned(),
                more => format!(
                    "{} more were read in {}",
                    bytes(more),
                    duration(started.elapsed())
                ),
            }
        };
        if !streamed {
            self.read = self.read.max(size);
        }
        self.messages.say(&format!(
            "tier {tier} runs now: {how}; the conversation goes on"
        ));
        match (drafted, self.speaker.drafting()) {
            (true, false) => self
                .messages
                .say("it does not lie above the draft, which has nothing to do now"),
            (false, true) => self.messages.say("the draft guesses again"),
            _ => {}
        }
        Ok(())
    }
}
