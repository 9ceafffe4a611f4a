//! A directory of documents: a file is renamed into place, and a bare inotify watch sees it.

use anyhow::{Context as _, Result};
use lab::{Guest, Node, NodePlan};
use metadata_user::source::directory::QUIET;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{Writer, changes, in_turns};
use crate::Effort;
use crate::result::Case;

const NAME: &str = "directory of documents";

pub(super) fn measure(effort: Effort) -> Result<Case> {
    let node = NodePlan::default().further(crate::load::UNLIMITED).start()?;
    let guest = node.guest("sync").document(|document| document.with_user_data(b"0")).boot()?;
    let mut writer = writer(&node, &guest);
    let directory = node.instances();
    let seen = in_turns(NAME, effort, &guest, &mut writer, QUIET, |writer, first| {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC).context("opening an inotify")?;
        inotify.add_watch(&directory, AddWatchFlags::IN_MOVED_TO).context("watching the directory")?;
        changes(writer, first, |_| inotify.read_events().map(drop).context("reading inotify"))
    })?;
    let pause = QUIET.as_millis();
    let mut case =
        seen.case("sync", NAME, "inotify", &format!("inotify plus the {pause} ms that a file must be left alone"));
    case.figure("a file must be left alone for, ms", QUIET.as_secs_f64() * 1e3);
    Ok(case)
}

fn writer(node: &Node, guest: &Guest) -> Writer {
    let (directory, document) = (node.instances(), guest.document().clone());
    Writer::start(node.namespace(), move || {
        Ok(move |change: u32| document.clone().with_user_data(change.to_string().as_bytes()).write(&directory))
    })
}
