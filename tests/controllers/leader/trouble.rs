//! Members of etcd that hang, and a cluster that loses its quorum.

use std::time::{Duration, Instant};

use lab::{EtcdPlan, Namespace};
use metadata_user::controller::etcd::election::Candidate;
use metadata_user::controller::etcd::{Cluster, Writer};

use super::{CLOUD, candidate, id, inside, lead, nodes, settings, written};

#[test]
fn a_member_that_hangs_is_left_and_a_lost_quorum_ends_the_term_before_its_lease() {
    let namespace = Namespace::create("quorum").unwrap();
    let plan = EtcdPlan::default().members(3);
    let settings = settings(&plan.endpoints());
    let etcd = &plan.start(&namespace).unwrap();
    inside(&namespace, || async {
        let cluster = Cluster::connect(&settings).await?;
        // Longer than an election among the members takes on a busy machine.
        let candidate = Candidate { lease: Duration::from_secs(4), ..candidate("one") };
        let term = lead(&cluster, &candidate).await;
        let writer = Writer::new(&cluster);
        writer.load(&term, CLOUD, |_, _, _| {}).await?;
        let put = async |document: &[u8]| writer.put(&term, id(), document, &nodes(&["node-1"]), None).await;
        assert_eq!(put(b"a").await?, written(1, 0));
        // The member in use hangs: another takes the write, and the lease is renewed there.
        let number = term.number();
        let at = settings.endpoints.iter().position(|url| cluster.state().endpoint.as_ref() == Some(url)).unwrap();
        etcd.pause(at)?;
        let begun = Instant::now();
        let renewed = put(b"b").await?;
        println!("written {:?} after the member hung, by another", begun.elapsed());
        // An answer may be lost, and the document there all the same.
        assert!(renewed.written <= 1 && renewed.removed == 0);
        etcd.resume(at)?;
        etcd.wait_healthy()?;
        assert_eq!(put(b"c").await?, written(1, 0));
        let is = etcd.etcdctl(&["get", super::super::etcd::key(super::INSTANCE).as_str(), "--print-value-only"])?;
        assert_eq!((is.trim(), writer.counts().overwritten), ("c", 0));

        // Without a quorum nothing is written, and the state says why.
        let lost = term.lost();
        etcd.pause(0)?;
        etcd.pause(1)?;
        let begun = Instant::now();
        let refused = put(b"d").await.unwrap_err().to_string();
        println!("without a quorum: {refused}");
        lost.await;
        println!("the term was over {:?} after the quorum was lost", begun.elapsed());
        let (_, error) = cluster.state().error.expect("an error");
        assert!(error.contains("no answer in time") || error.contains("no leader"), "{error}");
        etcd.resume(0)?;
        etcd.resume(1)?;
        etcd.wait_healthy()?;
        let term = lead(&cluster, &candidate).await;
        assert!(term.number() > number);
        // A member that hung may have read the refused write, and made it before the next term began. None comes after.
        let known = writer.load(&term, CLOUD, |_, _, _| {}).await?;
        assert!(known.has(id(), b"c") || known.has(id(), b"d"));
        drop(known);
        assert_eq!(writer.put(&term, id(), b"e", &nodes(&["node-1"]), None).await?, written(1, 0));
        assert_eq!(writer.counts().overwritten, 0);
        assert_eq!(cluster.state().error, None);
        term.resign().await?;
        Ok(())
    })
    .unwrap();
}
