//! Transactions of a term: etcd carries them out only while it lasts.

use etcd_client::{Client, Compare, GetResponse, Txn, TxnOp, TxnOpResponse};

use super::election::{Lost, Term};
use crate::source::etcd::cluster::{ClusterError, LARGEST_ANSWER};

/// Why it is not known that a transaction was carried out, or refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error(transparent)]
    NotLeader(#[from] Lost),
    #[error(transparent)]
    Etcd(#[from] ClusterError),
}

/// What became of a transaction.
pub(super) struct Sent {
    /// Whether its comparisons held, so that it was carried out.
    pub(super) succeeded: bool,
    /// etcd's revision then.
    pub(super) revision: i64,
    /// What its other branch read, if they did not.
    pub(super) found: Vec<GetResponse>,
}

impl Term {
    /// Sends a transaction until its fate is known: what it does if its comparisons hold, and what it reads if not. It may have
    /// been carried out when it is sent again: then comparisons of revisions do not hold.
    ///
    /// # Errors
    /// [`SendError::NotLeader`] when the term ends, however long etcd takes. After [`SendError::Etcd`], it may have been carried
    /// out, but will not be from the next transaction on.
    pub(super) async fn send(
        &self,
        compares: &[Compare],
        operations: &[TxnOp],
        look: &[TxnOp],
    ) -> Result<Sent, SendError> {
        let lost = self.lost();
        tokio::select! {
            biased;
            lost = lost => Err(lost.into()),
            sent = self.send_while_it_lasts(compares, operations, look) => sent,
        }
    }

    async fn send_while_it_lasts(
        &self,
        compares: &[Compare],
        operations: &[TxnOp],
        look: &[TxnOp],
    ) -> Result<Sent, SendError> {
        let cluster = self.cluster();
        let mut attempts = cluster.settings().endpoints.len();
        loop {
            self.settle().await?;
            let fence = self.fence()?;
            let compares: Vec<_> = fence.compares().into_iter().chain(compares.iter().cloned()).collect();
            let looks: Vec<_> = std::iter::once(fence.look()).chain(look.iter().cloned()).collect();
            let send = |client: Client| {
                let txn = Txn::new().when(compares.clone()).and_then(operations).or_else(looks.clone());
                let mut kv = client.kv_client().max_decoding_message_size(LARGEST_ANSWER);
                async move { kv.txn(txn).await }
            };
            let answer = match cluster.attempt(cluster.limit(), send).await {
                Ok(answer) => answer,
                Err(error) => {
                    if error.is_ambiguous() {
                        self.doubt();
                    }
                    if !error.is_of_member() || attempts == 0 {
                        return Err(error.into());
                    }
                    attempts -= 1;
                    continue;
                }
            };
            let revision = answer.header().map_or(0, |header| header.revision());
            if answer.succeeded() {
                return Ok(Sent { succeeded: true, revision, found: Vec::new() });
            }
            let found = answer.op_responses();
            if self.refenced(&fence, found.first())? {
                continue;
            }
            let gets = found.into_iter().skip(1).filter_map(|found| match found {
                TxnOpResponse::Get(get) => Some(get),
                _ => None,
            });
            return Ok(Sent { succeeded: false, revision, found: gets.collect() });
        }
    }
}
