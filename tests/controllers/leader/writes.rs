//! What is written, and what is not.

use lab::{EtcdPlan, Namespace};
use metadata_user::controller::etcd::election::{candidates, leader};
use metadata_user::controller::etcd::{Cluster, WriteError, Writer, WriterCounts, Written};

use super::{CLOUD, INSTANCE, candidate, id, inside, lead, nodes, settings, written};

const FOREIGN: &str = "/metadatad/nodes/node-1/instances/11111111-2222-4333-8444-555555555555";

#[test]
fn documents_are_written_moved_and_removed_by_the_leader_alone() {
    let namespace = Namespace::create("writes").unwrap();
    let plan = EtcdPlan::default();
    let settings = settings(&plan.endpoints());
    let etcd = &plan.start(&namespace).unwrap();
    let keys = || {
        let text = etcd.etcdctl(&["get", "/metadatad/nodes/", "--prefix"]).unwrap();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let pair = |pair: &[String]| format!("{} {}", pair[0].split('/').nth(3).unwrap(), pair[1]);
        lines.chunks(2).map(pair).collect::<Vec<_>>().join(", ")
    };
    let revision = || {
        let text = etcd.etcdctl(&["get", "x", "--write-out=json"]).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["header"]["revision"].as_i64().unwrap()
    };
    inside(&namespace, || async {
        let cluster = Cluster::connect(&settings).await?;
        let term = lead(&cluster, &candidate("one")).await;
        assert_eq!(leader(&cluster).await?.map(|leader| leader.name), Some("one".to_owned()));
        let writer = Writer::new(&cluster);
        assert!(matches!(writer.put(&term, id(), b"a", &nodes(&["node-1"]), None).await, Err(WriteError::NotLoaded)));
        etcd.etcdctl(&["put", "/metadatad/nodes/node-9/instances/not-an-instance", "x"])?;
        assert!(writer.load(&term, CLOUD, |_, _, _| {}).await?.is_empty());
        etcd.etcdctl(&["del", "/metadatad/nodes/node-9/instances/not-an-instance"])?;

        // A live migration: both, then the destination. What is there is not written again.
        let put = async |document: &[u8], names: &[&str]| writer.put(&term, id(), document, &nodes(names), None).await;
        assert_eq!(put(b"a", &["node-1"]).await?, written(1, 0));
        assert_eq!(put(b"a", &["node-1", "node-2"]).await?, written(1, 0));
        assert_eq!(keys(), "node-1 a, node-2 a");
        let before = revision();
        assert_eq!(put(b"a", &["node-1", "node-2"]).await?, Written::default());
        assert_eq!(revision(), before, "nothing was written");
        assert_eq!(put(b"b", &["node-3"]).await?, written(1, 2));
        assert_eq!((keys(), revision()), ("node-3 b".to_owned(), before + 1), "in one transaction");
        assert_eq!(writer.known().nodes_of(id()), nodes(&["node-3"]));
        assert!(matches!(put(b"b", &["a/b"]).await, Err(WriteError::Node(_))));

        // The operator changes a document.
        assert_eq!(put(b"c", &["node-1"]).await?, written(1, 1));
        etcd.etcdctl(&["put", FOREIGN, "theirs"])?;
        assert_eq!(put(b"d", &["node-1"]).await?, written(1, 0));
        assert_eq!((keys(), writer.counts().overwritten), ("node-1 d".to_owned(), 1));
        etcd.etcdctl(&["put", FOREIGN, "theirs"])?;
        assert_eq!(put(b"d", &["node-1"]).await?, Written::default(), "not noticed: nothing is sent");
        assert_eq!(writer.compare(&term).await?, [id()]);
        assert_eq!(put(b"d", &["node-1"]).await?, written(1, 0));
        etcd.etcdctl(&["del", FOREIGN])?;
        assert_eq!(writer.compare(&term).await?, [id()]);
        assert!(writer.compare(&term).await?.is_empty() && writer.known().is_empty());
        assert_eq!(put(b"d", &["node-1"]).await?, written(1, 0));

        // Larger than etcd takes, with one node and with two.
        let large = vec![b'x'; 1 << 20];
        assert_eq!(put(&large, &["node-1", "node-2"]).await?, written(2, 0));
        let error = put(&vec![b'x'; 2 << 20], &["node-1", "node-2"]).await.unwrap_err().to_string();
        assert!(error.contains(INSTANCE) && error.contains("--max-request-bytes"), "{error}");
        assert_eq!(put(b"d", &["node-1"]).await?, written(1, 1));

        // The next leader knows what is there, and the former one writes no more.
        let other = Cluster::connect(&settings).await?;
        let (two, lost) = (candidate("two"), term.lost());
        let next = lead(&other, &two);
        tokio::pin!(next);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(300), &mut next).await.is_err());
        assert_eq!(candidates(&cluster).await?.len(), 2);
        let text = etcd.etcdctl(&["get", "/metadatad/controller/election/", "--prefix", "--keys-only"])?;
        assert_eq!(text.split_whitespace().count(), 2);
        etcd.etcdctl(&["del", text.split_whitespace().find(|key| is_of(etcd, key, "one")).unwrap()])?;
        let next = next.await;
        assert!(matches!(put(b"late", &["node-1"]).await, Err(WriteError::NotLeader(_))));
        lost.await;
        assert!(matches!(writer.remove(&term, id()).await, Err(WriteError::NotLeader(_))));
        assert_eq!(keys(), "node-1 d");
        let second = Writer::new(&other);

        // Another cloud.
        let error = second.load(&next, "cloud-2", |_, _, _| {}).await.unwrap_err();
        assert!(
            matches!(&error, WriteError::OtherCloud { found, own } if found == CLOUD && own == "cloud-2"),
            "{error}"
        );
        assert!(second.put(&next, id(), b"e", &nodes(&["node-1"]), None).await.is_err());
        assert_eq!(keys(), "node-1 d");
        assert_eq!(second.accept(&next, "cloud-2").await?, Some(CLOUD.to_owned()));
        let known = second.load(&next, "cloud-2", |_, _, _| {}).await?;
        assert!(known.has(id(), b"d") && known.nodes_of(id()) == nodes(&["node-1"]));
        // It is another cloud's while it is written, too.
        etcd.etcdctl(&["put", "/metadatad/controller/cloud", "cloud-3"])?;
        let error = second.put(&next, id(), b"e", &nodes(&["node-1"]), None).await.unwrap_err();
        assert!(matches!(error, WriteError::OtherCloud { .. }), "{error}");
        second.accept(&next, "cloud-2").await?;
        second.load(&next, "cloud-2", |_, _, _| {}).await?;
        assert_eq!(second.remove(&next, id()).await?, written(0, 1));
        assert_eq!(second.remove(&next, id()).await?, Written::default());
        assert_eq!(second.counts(), WriterCounts { written: 0, removed: 1, unchanged: 1, overwritten: 0 });
        next.resign().await?;
        assert_eq!(leader(&cluster).await?, None);
        Ok(())
    })
    .unwrap();
}

/// Whether this candidate's key is of this controller.
fn is_of(etcd: &lab::Etcd, key: &str, name: &str) -> bool {
    etcd.etcdctl(&["get", key, "--print-value-only"]).unwrap().contains(&format!("\"{name}\""))
}
