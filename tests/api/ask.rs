//! Asks an instance's answers as a guest would.

use std::sync::Arc;

use metadata_user::api::{Date, Effect, Instance, Request};

use crate::case::{Captured, Case, Row};

/// The day on which the cases were captured: every version is in the past.
const TODAY: Date = Date::new(2026, 11, 23);

/// A guest whose instance is a case's.
pub(crate) struct Guest {
    instance: Instance,
}

impl Guest {
    /// Gives the case's instance to a guest.
    pub(crate) fn boot(case: &Case) -> Self {
        let record = case.record();
        let results = Arc::new(case.golden.cloud.results(&record));
        let cloud = Arc::new(case.golden.cloud.settings());
        Self { instance: Instance::new(Arc::new(record), cloud).with_dynamic(results) }
    }

    /// Sends a request.
    pub(crate) fn ask(&mut self, row: &Row) -> Captured {
        let is_chunked = row.header("transfer-encoding").is_some();
        let body = row.request_body.as_deref();
        let content_length = body.filter(|_| !is_chunked).map(|body| body.len() as u64);
        let answer = self.instance.answer(&Request {
            method: &row.method,
            target: &row.path,
            accept: row.header("accept"),
            content_length,
            body: body.unwrap_or_default(),
            today: TODAY,
            seed: &|seed| seed.fill(0xa5),
        });
        if let Some(Effect::SetPassword(password)) = answer.effect {
            self.instance = self.instance.with_password(password);
        }
        Captured {
            status: answer.status,
            content_type: answer.content_type.map(str::to_owned),
            content_length: Some(answer.content_length),
            body: answer.body.to_vec(),
        }
    }
}
