//! Requests to the pipeline, from what the server knows of a user.

use millstream_data::Prepared;
use millstream_pipeline::{Pipeline, Request};
use millstream_schema::Remembered;
use millstream_schema::examples::Action;
use millstream_schema::ids::NO_ROW;
use millstream_stream::{Action as Past, Profile};
use std::sync::Arc;

use crate::chain::segment_of;

/// Makes requests as training saw them: with those past actions that examples carry.
#[derive(Clone)]
pub struct Asking {
    pipeline: Arc<Pipeline>,
    remembered: Remembered,
}

impl Asking {
    /// For a pipeline over this prepared data.
    pub fn new(pipeline: Arc<Pipeline>, prepared: &Prepared) -> Self {
        Self { pipeline, remembered: prepared.remembered() }
    }

    /// A request for `n` items for the user with this profile, at that time.
    pub fn request(&self, user: &str, profile: &Profile, (time_ms, n): (i64, usize)) -> Request {
        let catalogue = self.pipeline.catalogue().snapshot();
        let row = catalogue.user(user).unwrap_or(NO_ROW);
        let action = |a: &Past| {
            let item = catalogue.item(&a.item)?;
            Some(Action { item, time_ms: a.time_ms, kind: a.kind.code(), value: a.value })
        };
        let mut picker = self.remembered.picker();
        let earlier = profile.history.iter().rev().filter(|a| a.time_ms < time_ms).filter_map(action);
        let mut history: Vec<Action> = earlier.filter(|a| picker.takes(a.kind)).collect();
        history.reverse();
        let field = self.pipeline.config().catalogue.segment.as_deref();
        Request {
            history,
            seen: Arc::new(profile.seen.iter().filter_map(|id| catalogue.item(id)).collect()),
            segment: catalogue
                .user_record(row)
                .and_then(|record| segment_of(record, field))
                .map(str::to_owned),
            ..Request::new(user, row, time_ms, n)
        }
    }
}
