//! Notifications with a real RabbitMQ: what is missed is noticed, nothing else is, and what is wrong is told with its remedy.

mod trouble;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lab::openstack::RabbitMq;
use lab::wait;
use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use metadata_user::config::controller::RabbitMq as Settings;
use metadata_user::controller::notifications::{Event, GapReason, Notification, Notifications, Receipt, listen};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// Nova's exchange and its topic.
const NOVA: (&str, &str) = ("nova", "versioned_notifications.info");
/// Neutron's.
const NEUTRON: (&str, &str) = ("neutron", "notifications.info");
/// Another consumer's queue, as a service for metering has it.
const OTHER: &str = "versioned_notifications.info";
/// The last part of a UUID.
type Number = u16;

/// A broker, with what Nova, Neutron and another consumer have declared there, and a thread that runs what talks to it.
struct World {
    runtime: Runtime,
    publisher: Channel,
    _connection: Connection,
    directory: tempfile::TempDir,
    broker: RabbitMq,
}

/// A leader that consumes, and what it holds.
struct Leader {
    notifications: Notifications,
    receiver: mpsc::Receiver<Notification>,
    held: Vec<Receipt>,
}

impl World {
    fn start() -> Result<Self> {
        let broker = RabbitMq::start()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (connection, publisher) = runtime.block_on(services(&broker.url()))?;
        Ok(Self { runtime, publisher, _connection: connection, directory: tempfile::tempdir()?, broker })
    }

    /// Connects the services again, after the broker has gone.
    fn reconnect(&mut self) -> Result<()> {
        (self._connection, self.publisher) = self.runtime.block_on(services(&self.broker.url()))?;
        Ok(())
    }

    fn settings(&self) -> Result<Settings> {
        settings(self.directory.path(), &self.broker.url())
    }

    fn lead(&self, settings: &Settings, term: i64) -> Leader {
        let _context = self.runtime.enter();
        let (sender, receiver) = mpsc::channel(10_000);
        Leader { notifications: listen(settings, term, sender), receiver, held: Vec::new() }
    }

    /// Publishes that this instance has changed.
    fn change(&self, number: Number) -> Result<()> {
        let data = serde_json::json!({"uuid": uuid(number)});
        let payload = serde_json::json!({"nova_object.name": "InstanceUpdatePayload", "nova_object.data": data});
        self.publish(NOVA, &serde_json::json!({"event_type": "instance.update", "payload": payload}))
    }

    fn publish(&self, (exchange, key): (&str, &str), message: &serde_json::Value) -> Result<()> {
        let body = serde_json::json!({"oslo.version": "2.0", "oslo.message": message.to_string()}).to_string();
        let persistent = BasicProperties::default().with_delivery_mode(2);
        self.runtime.block_on(async {
            let options = BasicPublishOptions::default();
            let sent =
                self.publisher.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), persistent).await?;
            sent.await?;
            Ok(())
        })
    }
}

impl Leader {
    /// Waits for the next event; its receipt is held if `hold`.
    fn next(&mut self, hold: bool) -> Result<Event> {
        let view = self.notifications.view();
        let next = wait::until("a notification", || match self.receiver.try_recv() {
            Ok(notification) => Ok(Some(notification)),
            Err(mpsc::error::TryRecvError::Empty) => Ok(None),
            Err(error) => Err(error.into()),
        });
        let next = next.with_context(|| format!("{:?} {:?}", view.connection(), view.counts()))?;
        if hold {
            self.held.push(next.receipt);
        }
        Ok(next.event)
    }

    fn gap(&mut self) -> Result<GapReason> {
        match self.next(false)? {
            Event::Gap { why } => Ok(why),
            event => bail!("{event:?} instead of a gap"),
        }
    }

    /// Waits for so many instances, in any order, and returns them.
    fn instances(&mut self, count: usize, hold: bool) -> Result<BTreeSet<Number>> {
        let mut seen = BTreeSet::new();
        while seen.len() < count {
            match self.next(hold)? {
                Event::Instance { id } => seen.insert(Number::try_from(id.0.as_u128())?),
                event => bail!("{event:?} instead of an instance"),
            };
        }
        Ok(seen)
    }

    fn wait_connected(&self) -> Result<()> {
        let view = self.notifications.view();
        let connected = wait::until("a connection", || Ok(view.connection().connected.map(|_| ())));
        connected.with_context(|| format!("{:?}", view.connection()))
    }

    /// Waits until all messages that came have been acknowledged, and ends without a trace.
    fn end(self) -> Result<()> {
        drop(self.held);
        let view = self.notifications.view();
        wait::until("all is acknowledged", || Ok((view.connection().unsettled == 0).then_some(())))
    }
}

/// Declares what the services declare: exchanges as oslo.messaging does, and the queue of another consumer.
async fn services(url: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(lapin::options::ConfirmSelectOptions::default()).await?;
    for (exchange, _) in [NOVA, NEUTRON] {
        declare_exchange(&channel, exchange).await?;
    }
    channel.queue_declare(OTHER.into(), QueueDeclareOptions::default(), FieldTable::default()).await?;
    let (exchange, key) = NOVA;
    channel
        .queue_bind(OTHER.into(), exchange.into(), key.into(), QueueBindOptions::default(), FieldTable::default())
        .await?;
    Ok((connection, channel))
}

async fn declare_exchange(channel: &Channel, name: &str) -> Result<()> {
    let options = ExchangeDeclareOptions::default();
    Ok(channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default()).await?)
}

/// Returns the settings of a controller, with these URLs.
fn settings(directory: &Path, urls: &str) -> Result<Settings> {
    let urls_file = directory.join("urls");
    fs::write(&urls_file, urls)?;
    fs::set_permissions(&urls_file, fs::Permissions::from_mode(0o600))?;
    Ok(Settings {
        urls_file,
        queue: "metadatad".to_owned(),
        nova_exchange: NOVA.0.to_owned(),
        nova_topics: vec!["versioned_notifications".to_owned()],
        neutron_exchange: NEUTRON.0.to_owned(),
        neutron_topics: vec!["notifications".to_owned()],
        length_limit: 100,
        expiry: Duration::from_secs(3_600),
        ca_file: None,
        identity: None,
    })
}

fn uuid(number: Number) -> String {
    format!("00000000-0000-0000-0000-{number:012x}")
}

fn created(settings: &Settings) -> GapReason {
    GapReason::QueueCreated { queue: settings.queue.clone() }
}

#[test]
fn nothing_is_lost_between_leaders_and_whatever_may_be_is_a_gap() {
    let mut world = World::start().unwrap();
    let settings = world.settings().unwrap();

    // The first one ever.
    let mut first = world.lead(&settings, 1);
    assert_eq!(first.gap().unwrap(), created(&settings));
    world.change(1).unwrap();
    let port = serde_json::json!({"port": {"id": uuid(7), "device_id": uuid(2), "device_owner": "compute:nova"}});
    world.publish(NEUTRON, &serde_json::json!({"event_type": "port.update.end", "payload": port})).unwrap();
    world.publish(NOVA, &serde_json::json!({"event_type": "keypair.delete.end", "payload": {}})).unwrap();
    assert_eq!(first.instances(1, false).unwrap(), [1].into());
    assert!(matches!(first.next(false).unwrap(), Event::Port { device_id: Some(id), .. } if id.0.as_u128() == 2));

    // It dies with what it has not written: the next one gets that, and what was published in between, and knows that nothing is missing.
    (10..13).for_each(|number| world.change(number).unwrap());
    assert_eq!(first.instances(3, true).unwrap(), (10..13).collect());
    drop(first);
    (13..15).for_each(|number| world.change(number).unwrap());
    let mut second = world.lead(&settings, 2);
    assert_eq!(second.instances(5, true).unwrap(), (10..15).collect());

    // A connection that breaks loses nothing either.
    world.broker.close_connections().unwrap();
    world.reconnect().unwrap();
    world.change(15).unwrap();
    assert_eq!(second.instances(6, false).unwrap(), (10..16).collect());

    // It hangs: a leader with a higher term gets all that comes from then on.
    let mut third = world.lead(&settings, 3);
    third.wait_connected().unwrap();
    (20..40).for_each(|number| world.change(number).unwrap());
    assert_eq!(third.instances(20, false).unwrap(), (20..40).collect());
    assert!(second.receiver.try_recv().is_err());
    drop(second);
    third.end().unwrap();
    assert_eq!(world.broker.messages("metadatad").unwrap(), Some(0));
    // 1, keypair, 10 to 15, 20 to 39: another consumer has them all.
    assert_eq!(world.broker.messages(OTHER).unwrap(), Some(1 + 1 + 6 + 20));

    // Nobody consumes: the queue is bounded, and what was dropped is noticed.
    (100..250).for_each(|number| world.change(number).unwrap());
    let mut fourth = world.lead(&settings, 4);
    let mut seen = BTreeSet::new();
    let mut overflow = None;
    while seen.len() < 100 || overflow.is_none() {
        match fourth.next(false).unwrap() {
            Event::Instance { id } => _ = seen.insert(id.0.as_u128()),
            Event::Gap { why } => overflow = Some(why),
            event => panic!("{event:?}"),
        }
    }
    assert!(matches!(overflow, Some(GapReason::Overflow { dropped: 1.. })), "{overflow:?}");
    assert_eq!(seen, (150..250).collect(), "the oldest are dropped");

    // Deleted while it is consumed.
    world.broker.delete_queue("metadatad").unwrap();
    assert_eq!(fourth.gap().unwrap(), created(&settings));
    world.change(50).unwrap();
    assert_eq!(fourth.instances(1, false).unwrap(), [50].into());
    fourth.end().unwrap();

    // The broker is restarted while nobody consumes: what was in the queue is there, and the bindings are not.
    world.change(60).unwrap();
    world.broker.stop().unwrap();
    world.broker.resume().unwrap();
    world.reconnect().unwrap();
    world.change(61).unwrap();
    let mut fifth = world.lead(&settings, 5);
    assert_eq!(fifth.gap().unwrap(), GapReason::BrokerRestarted);
    assert_eq!(fifth.instances(1, false).unwrap(), [60].into());
    world.change(62).unwrap();
    assert_eq!(fifth.instances(1, false).unwrap(), [62].into());
    assert_eq!(fifth.notifications.view().counts().gaps, [("broker_restarted", 1)]);
    fifth.end().unwrap();
}

#[test]
fn a_queue_that_expired_and_a_service_that_comes_later_are_gaps_and_a_hang_is_noticed() {
    let world = World::start().unwrap();
    let settings = Settings {
        queue: "short".to_owned(),
        neutron_exchange: "later".to_owned(),
        expiry: Duration::from_secs(1),
        ..world.settings().unwrap()
    };
    let mut leader = world.lead(&settings, 1);
    assert_eq!(leader.gap().unwrap(), created(&settings));
    let view = leader.notifications.view();
    assert_eq!(view.connection().missing_exchanges, ["later"]);
    world.runtime.block_on(declare_exchange(&world.publisher, "later")).unwrap();
    assert_eq!(leader.gap().unwrap(), GapReason::ExchangeBound { exchange: "later".to_owned() });
    assert_eq!(view.connection().missing_exchanges, Vec::<String>::new());
    let group = serde_json::json!({"security_group": {"id": uuid(9)}});
    let message = serde_json::json!({"event_type": "security_group.update.end", "payload": group});
    world.publish(("later", NEUTRON.1), &message).unwrap();
    assert!(matches!(leader.next(false).unwrap(), Event::SecurityGroup { id } if id.as_u128() == 9));
    leader.end().unwrap();
    wait::until("the queue expires", || Ok(world.broker.messages("short")?.is_none().then_some(()))).unwrap();
    let mut leader = world.lead(&settings, 2);
    assert_eq!(leader.gap().unwrap(), created(&settings));

    // The broker hangs: it is noticed by its heartbeats or by what it does not answer, and when it goes on, so does everything.
    let hang = world.broker.hang().unwrap();
    let view = leader.notifications.view();
    let error = wait::until("the hang is noticed", || {
        let connection = view.connection();
        Ok(if connection.connected.is_none() { connection.last_error } else { None })
    });
    let (error, _) = error.unwrap();
    assert!(error.contains("does not answer") || error.contains("heartbeat"), "{error}");
    drop(hang);
    leader.wait_connected().unwrap();
}
