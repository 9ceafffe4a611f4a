//! `metadatad instance list`.

use std::collections::HashMap;
use std::io::Write;

use serde_json::json;

use super::change::Stored;
use super::{CliError, OfNode, exit};
use crate::cli::{print_json, table};
use crate::config;
use crate::record::InstanceId;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Verb {
    #[command(flatten)]
    of: OfNode,

    /// With etcd: the documents of all nodes
    #[arg(long, conflicts_with = "node")]
    all_nodes: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is shown of a document.
struct Row {
    uuid: String,
    project: String,
    name: String,
    taps: Vec<String>,
    problem: Option<String>,
    stored: Stored,
}

impl Verb {
    pub(super) fn execute(&self, source: &config::Source, out: &mut dyn Write) -> Result<u8, CliError> {
        let mut first: HashMap<(Option<String>, InstanceId), String> = HashMap::new();
        let mut rows = Vec::new();
        for stored in self.of.open(source)?.list(self.all_nodes)? {
            let mut row = row(stored);
            if row.problem.is_none()
                && let Some(id) = row.stored.id
            {
                let name = row.stored.name.clone();
                let other = first.entry((row.stored.node.clone(), id)).or_insert(name);
                if *other != row.stored.name {
                    row.problem = Some(format!("{other} describes this instance too; remove one of the two"));
                }
            }
            rows.push(row);
        }
        if self.json {
            let values: Vec<_> = rows.iter().map(Row::json).collect();
            print_json(&values, out)?;
        } else if self.all_nodes {
            let head = ["NODE", "UUID", "PROJECT", "NAME", "TAPS", "KEY", "REVISION", "STATE"];
            let cells = |row: &Row| {
                let [uuid, project, name, taps, key, revision, state] = row.cells();
                [row.stored.node.clone().unwrap_or_default(), uuid, project, name, taps, key, revision, state]
            };
            table::print(head, &rows.iter().map(cells).collect::<Vec<_>>(), out)?;
        } else if matches!(source, config::Source::Etcd(_)) {
            let head = ["UUID", "PROJECT", "NAME", "TAPS", "KEY", "REVISION", "STATE"];
            table::print(head, &rows.iter().map(Row::cells).collect::<Vec<_>>(), out)?;
        } else {
            let cells = |row: &Row| {
                let [uuid, project, name, taps, file, _, state] = row.cells();
                [uuid, project, name, taps, file, state]
            };
            let head = ["UUID", "PROJECT", "NAME", "TAPS", "FILE", "STATE"];
            table::print(head, &rows.iter().map(cells).collect::<Vec<_>>(), out)?;
        }
        Ok(exit::OK)
    }
}

fn row(stored: Stored) -> Row {
    let uuid = stored.id.map(|id| id.to_string()).unwrap_or_default();
    match stored.parse() {
        Ok(record) => Row {
            uuid,
            project: record.project_id.to_string(),
            name: record.display_name.as_deref().unwrap_or(&record.hostname).to_owned(),
            taps: record.ports.iter().map(|port| port.device_name()).collect(),
            problem: None,
            stored,
        },
        Err(problem) => {
            Row { uuid, project: String::new(), name: String::new(), taps: Vec::new(), problem: Some(problem), stored }
        }
    }
}

impl Row {
    fn cells(&self) -> [String; 7] {
        [
            self.uuid.clone(),
            self.project.clone(),
            self.name.clone(),
            self.taps.join(","),
            self.stored.name.clone(),
            self.stored.revision.map(|revision| revision.to_string()).unwrap_or_default(),
            self.problem.as_ref().map_or("ok".to_owned(), |problem| format!("broken: {problem}")),
        ]
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "uuid": self.stored.id.map(|id| id.to_string()),
            "project_id": Some(&self.project).filter(|_| self.problem.is_none()),
            "name": Some(&self.name).filter(|_| self.problem.is_none()),
            "taps": self.taps,
            "stored_as": self.stored.name,
            "node": self.stored.node,
            "revision": self.stored.revision,
            "problem": self.problem,
        })
    }
}
