//! Requests of guests that need Nova: pages that were not prefetched, and posted passwords.
//!
//! Promises: a page is read once for all that wait for it, and kept; Nova decides on a password, and the copy shows it at
//! once. Left out: how much one guest may ask for (`local_instance`).

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::Shared;
use super::local_instance::{InstanceTask, Turn};
use crate::api::{NovaPages, Page, Password, Written};
use crate::nova_metadata::client::{Requester, Urgency};
use crate::origin::{Ask, Outcome, Want};

/// A page that was read for a guest may show that the others are old: they are read again, unless they are younger than
/// this, which is as long as Nova's own cache lasts.
pub(super) const FRESH: Duration = Duration::from_secs(15);

impl Shared {
    /// Takes a guest's request on.
    pub(super) fn ask(self: &Arc<Self>, ask: Ask) {
        let Ask { instance, want, done } = ask;
        let Some(task) = self.lock().get(&instance).cloned() else { return };
        let Some(who) = task.requester() else { return };
        let shared = Arc::clone(self);
        match want {
            Want::Page(path) => match task.ask(&path, done) {
                Turn::Read => drop(tokio::spawn(async move { shared.read_through(&who, &task, &path).await })),
                Turn::Wait => {}
                Turn::Refuse => debug!(%instance, path, "a guest asks for too many paths: refused"),
            },
            Want::Password { .. } if !task.may_post() => {
                debug!(%instance, "a guest posts too many passwords: refused");
            }
            Want::Password { path, password } => drop(tokio::spawn(async move {
                let _turn = task.turn().await;
                let outcome = match shared.client.post(&who, &path, &password).await {
                    Ok(written) => {
                        if written == Written::Kept {
                            task.posted(password.clone());
                        }
                        shared.follow_password(&who, &task, &password, written);
                        Outcome::Posted(written)
                    }
                    Err(_) => Outcome::Unavailable,
                };
                shared.publish();
                // A guest that went has its password kept all the same.
                let _ = done.send(outcome);
            })),
        }
    }

    /// Shows a password at once, and reads it back when Nova's cache is over. After a conflict, the copy is old.
    fn follow_password(
        self: &Arc<Self>,
        who: &Requester,
        task: &Arc<InstanceTask>,
        password: &Password,
        written: Written,
    ) {
        if task.is_gone() {
            return;
        }
        if written == Written::Kept
            && let Some(now) = self.store.nova_pages(who.instance)
        {
            self.keep(now.with_password(password));
        }
        match written {
            Written::Kept => super::read_again(task),
            Written::Exists => task.changed.notify_one(),
            Written::TooLarge | Written::Unavailable => {}
        }
    }

    async fn read_through(&self, who: &Requester, task: &InstanceTask, path: &str) {
        let turn = task.turn().await;
        let read = self.client.page(who, path, Urgency::Guest).await;
        drop(turn);
        let outcome = match read {
            Ok(page) if !task.is_gone() => self.keep_page(who, task, path, page),
            _ => Outcome::Unavailable,
        };
        task.finish(path, outcome);
        self.publish();
    }

    fn keep_page(&self, who: &Requester, task: &InstanceTask, path: &str, page: Page) -> Outcome {
        let Some(now) = self.store.nova_pages(who.instance) else {
            return Outcome::Unavailable;
        };
        let is_found = page.is_found();
        let room = task.keep(path);
        let pages = now.pages().filter(|(known, _)| Some(*known) != room.as_deref() && *known != path);
        let pages = pages.map(|(path, page)| (path.to_owned(), page.clone()));
        let mut copied = NovaPages::new(who.instance, pages.chain([(path.to_owned(), page)]));
        if let Some(password) = task.fresh_password() {
            copied = copied.with_password(&password);
        }
        self.keep(copied);
        if is_found && task.age().is_some_and(|age| age > FRESH) {
            task.changed.notify_one();
        }
        Outcome::Fetched
    }
}
