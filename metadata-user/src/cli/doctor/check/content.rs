//! Whether the instance has content here, and it can be answered.

use super::super::evidence::{Evidence, Port};
use super::super::finding::Finding;
use crate::admin::wire::State;

pub(super) fn check(evidence: &Evidence, port: &Port) -> Vec<Finding> {
    let Some(answers) = evidence.daemon.answers() else { return Vec::new() };
    let Some(status) = port.status.as_ref().filter(|status| status.state == State::Bound) else { return Vec::new() };
    let instance = status.instance.as_deref().unwrap_or("-");
    let source = format!("{} {}", answers.status.source.kind, answers.status.source.place);
    let Some(content) = &port.content else {
        let what = format!("there is no content for {instance}, so its guest gets 503");
        return vec![Finding::problem(what, format!("write its document to the source ({source})"))];
    };
    vec![match content.meta_data {
        Some(200) => Finding::passed(format!("{instance} has content, and meta_data.json is answered")),
        Some(code) => Finding::problem(
            format!("meta_data.json of {instance} is answered with {code}"),
            "check the `policy` in its document (`metadatad access` shows its effect), and the source",
        ),
        None => Finding::note(format!("meta_data.json of {instance} has not been fetched from {source} yet")),
    }]
}
