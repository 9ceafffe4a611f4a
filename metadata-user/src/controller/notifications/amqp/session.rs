//! One connection: the queue is declared and bound, then messages are read until something ends it.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::protocol::AMQPSoftError;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use lapin::{Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::broker::Broker;
use super::error::{About, AmqpError, soft};
use super::transport::{self, PATIENCE};
use super::unsettled::Unsettled;
use crate::config::controller::RabbitMq;
use crate::controller::notifications::envelope;
use crate::controller::notifications::event::{Event, GapReason, Notification};
use crate::controller::notifications::receipt::{Receipt, Receipts};
use crate::controller::notifications::view::View;
use crate::controller::notifications::{SETTLE_AFTER, UNSETTLED};
use crate::controller::queue::Urgency;

/// Messages that the broker sends before any is acknowledged: more than may wait for receipts, so that it never stops because of those.
const PREFETCH: u16 = 10_000;
/// Time between two signs of life, in seconds; the broker gives a connection up after two. A hung leader's messages come back then.
const HEARTBEAT: u16 = 5;
/// Events that are read and wait for the receiver. Further messages stay in lapin's buffer.
const READ_AHEAD: usize = 1_000;
/// How often what is bound is checked, and how much waits in the queue.
const CHECK: Duration = Duration::from_secs(2);
/// Time between two gaps because of dropped messages.
const DROPPED: Duration = Duration::from_secs(1);

/// A connection and what is to be consumed from.
struct Session<'a> {
    settings: &'a RabbitMq,
    about: About<'a>,
    connection: Connection,
    /// Exchanges that did not exist when they were last looked at.
    missing: Vec<String>,
}

/// Consumes from a broker until the receiver is gone.
///
/// # Errors
/// [`AmqpError`] that ended it.
pub(super) async fn run(
    settings: &RabbitMq,
    broker: &Broker,
    term: i64,
    sender: &mpsc::Sender<Notification>,
    view: &View,
    clock: fn() -> Instant,
) -> Result<(), AmqpError> {
    let about = About { broker, queue: &settings.queue, has_certificate: settings.identity.is_some() };
    let (stream, cut) = transport::connect(settings, broker).await?;
    let properties = ConnectionProperties::default().with_connection_name("metadatad controller".into());
    let login = tokio::time::timeout(PATIENCE, transport::open(stream, uri(settings, broker), properties)).await;
    let connection = login
        .map_err(|_| AmqpError::Silent { broker: broker.to_string(), doing: "logging in" })?
        .map_err(|error| about.login_error(error))?;
    let mut session = Session { settings, about, connection, missing: Vec::new() };
    let prepared = tokio::time::timeout(PATIENCE, session.prepare(term)).await;
    let (consuming, gap) =
        prepared.map_err(|_| AmqpError::Silent { broker: broker.to_string(), doing: "declaring the queue" })??;
    info!("notifications: receiving from {broker}, queue {}", settings.queue);
    if !session.missing.is_empty() {
        warn!("notifications: exchange {} does not exist on {broker}; waiting for it", session.missing.join(", "));
    }
    view.note_connected(broker.to_string(), session.missing.clone(), SystemTime::now());
    let ended = session.consume(consuming, gap, sender, view, clock).await;
    if ended.is_ok() {
        // What is not acknowledged is back in the queue at once.
        let _ = tokio::time::timeout(CHECK, session.connection.close(200, "leadership ended".into())).await;
    }
    drop(cut);
    ended
}

/// The channel, and the consumers of the queue and of what it drops.
struct Consuming {
    channel: Channel,
    messages: Consumer,
    dropped: Consumer,
}

impl Session<'_> {
    /// Declares and binds the queue, and begins to consume. Returns why messages may have been missed, if so.
    async fn prepare(&mut self, term: i64) -> Result<(Consuming, Option<GapReason>), AmqpError> {
        let queue = self.settings.queue.as_str();
        let existed = self.exists(queue).await?;
        let channel = self.channel().await?;
        let declaring = |error| self.about.error("declaring the queue", error);
        let durable = QueueDeclareOptions::durable();
        channel.queue_declare(self.dropped().into(), durable, self.dropped_arguments()).await.map_err(declaring)?;
        channel.queue_declare(queue.into(), durable, self.arguments()).await.map_err(declaring)?;
        let bound = self.marked().await?;
        let mut missing = Vec::new();
        for (exchange, topics) in self.exchanges() {
            if !self.bind(exchange, topics).await? {
                missing.push(exchange.to_owned());
            }
        }
        self.missing = missing;
        self.mark().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.map_err(declaring)?;
        let messages = self.consumer(&channel, queue, term).await?;
        let dropped = self.consumer(&channel, &self.dropped(), term).await?;
        let gap = match (existed, bound) {
            (false, _) => Some(GapReason::QueueCreated { queue: queue.to_owned() }),
            (true, false) => Some(GapReason::BrokerRestarted),
            (true, true) => None,
        };
        Ok((Consuming { channel, messages, dropped }, gap))
    }

    /// Reads messages and sends what they name.
    async fn consume(
        &mut self,
        consuming: Consuming,
        gap: Option<GapReason>,
        sender: &mpsc::Sender<Notification>,
        view: &View,
        clock: fn() -> Instant,
    ) -> Result<(), AmqpError> {
        let Consuming { channel, mut messages, mut dropped } = consuming;
        let (receipts, mut settled) = Receipts::new();
        let mut unsettled = Unsettled::new(UNSETTLED, SETTLE_AFTER);
        let mut outbox: VecDeque<Notification> = VecDeque::new();
        let mut lost: u64 = 0;
        let note = |outbox: &mut VecDeque<Notification>, why: GapReason| {
            warn!("notifications: {why}; everything is compared");
            view.note_gap(&why, SystemTime::now());
            outbox.push_back(gap_of(why));
        };
        if let Some(why) = gap {
            note(&mut outbox, why);
        }
        let mut check = tokio::time::interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut report = tokio::time::interval(DROPPED);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                permit = sender.reserve(), if !outbox.is_empty() => match permit {
                    Ok(permit) => if let Some(notification) = outbox.pop_front() {
                        permit.send(notification);
                    },
                    Err(_) => return Ok(()),
                },
                () = sender.closed() => return Ok(()),
                Some(tag) = settled.recv() => {
                    if unsettled.settle(tag) {
                        self.acknowledge(&channel, tag).await?;
                    }
                    view.update(|connection| connection.unsettled = unsettled.len());
                }
                message = messages.next(), if outbox.len() < READ_AHEAD => {
                    let delivery = self.delivery(message)?;
                    let reading = envelope::read(&delivery.data);
                    view.note_message(reading.kind, SystemTime::now());
                    unsettled.add(delivery.delivery_tag, clock());
                    view.update(|connection| connection.unsettled = unsettled.len());
                    let receipt = receipts.of(delivery.delivery_tag);
                    let (urgency, sent_at) = (reading.urgency, reading.sent_at);
                    outbox.extend(reading.events.into_iter().map(|event| {
                        Notification { event, urgency, sent_at, receipt: receipt.clone() }
                    }));
                    self.settle_early(&channel, &receipts, unsettled.take_early(clock()), view).await?;
                }
                message = dropped.next() => {
                    let delivery = self.delivery(message)?;
                    self.acknowledge(&channel, delivery.delivery_tag).await?;
                    lost += 1;
                }
                _ = report.tick(), if lost > 0 => {
                    note(&mut outbox, GapReason::Overflow { dropped: lost });
                    lost = 0;
                }
                _ = check.tick() => {
                    for why in self.check(view).await? {
                        note(&mut outbox, why);
                    }
                    self.settle_early(&channel, &receipts, unsettled.take_early(clock()), view).await?;
                }
            }
        }
    }

    /// Looks how much waits, and for exchanges that did not exist. Returns what was bound.
    async fn check(&mut self, view: &View) -> Result<Vec<GapReason>, AmqpError> {
        let checked = tokio::time::timeout(PATIENCE, async {
            let channel = self.channel().await?;
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let queue =
                channel.queue_declare(self.settings.queue.as_str().into(), passive, FieldTable::default()).await;
            let waiting = queue.map_err(|error| self.about.error("looking at the queue", error))?.message_count();
            let _ = channel.close(200, "done".into()).await;
            let mut bound = Vec::new();
            for (exchange, topics) in self.exchanges() {
                if self.missing.iter().any(|missing| missing == exchange) && self.bind(exchange, topics).await? {
                    bound.push(exchange.to_owned());
                }
            }
            Ok::<_, AmqpError>((waiting, bound))
        });
        let silent = |_| AmqpError::Silent { broker: self.about.broker.to_string(), doing: "looking at the queue" };
        let (waiting, bound) = checked.await.map_err(silent)??;
        self.missing.retain(|missing| !bound.contains(missing));
        view.update(|connection| {
            connection.waiting = Some(waiting);
            connection.missing_exchanges.clone_from(&self.missing);
        });
        Ok(bound.into_iter().map(|exchange| GapReason::ExchangeBound { exchange }).collect())
    }

    /// Returns a message of a consumer, or why there is none.
    fn delivery(
        &self,
        message: Option<lapin::Result<lapin::message::Delivery>>,
    ) -> Result<lapin::message::Delivery, AmqpError> {
        match message {
            Some(Ok(delivery)) => Ok(delivery),
            Some(Err(error)) => Err(self.about.error("waiting for messages", error)),
            None => {
                let (broker, queue) = (self.about.broker.to_string(), self.settings.queue.clone());
                Err(AmqpError::Cancelled { broker, queue })
            }
        }
    }

    /// Acknowledges messages without their receipts, which are not needed from here on.
    async fn settle_early(
        &self,
        channel: &Channel,
        receipts: &Receipts,
        tags: Vec<u64>,
        view: &View,
    ) -> Result<(), AmqpError> {
        view.note_early(tags.len());
        for tag in tags {
            receipts.note_early(tag);
            self.acknowledge(channel, tag).await?;
        }
        Ok(())
    }

    async fn acknowledge(&self, channel: &Channel, tag: u64) -> Result<(), AmqpError> {
        let acknowledged = channel.basic_ack(tag, BasicAckOptions::default()).await;
        acknowledged.map_err(|error| self.about.error("acknowledging a message", error))
    }

    async fn channel(&self) -> Result<Channel, AmqpError> {
        let channel = self.connection.create_channel().await;
        channel.map_err(|error| self.about.error("opening a channel", error))
    }

    async fn consumer(&self, channel: &Channel, queue: &str, term: i64) -> Result<Consumer, AmqpError> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-priority".into(), AMQPValue::LongLongInt(term));
        let consumer = channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), arguments).await;
        consumer.map_err(|error| self.about.error("consuming", error))
    }

    /// Returns whether a queue exists.
    async fn exists(&self, queue: &str) -> Result<bool, AmqpError> {
        let channel = self.channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = channel.queue_declare(queue.into(), passive, FieldTable::default()).await.map(|_| ());
        self.found(&channel, "looking for the queue", found).await
    }

    /// Binds the queue to an exchange. Returns `false` if there is no such exchange.
    async fn bind(&self, exchange: &str, topics: &[String]) -> Result<bool, AmqpError> {
        let channel = self.channel().await?;
        let mut bound = Ok(());
        for topic in topics {
            // The last part is the priority of the message: info, error, and so on.
            let key = format!("{topic}.*");
            let (queue, options) = (self.settings.queue.as_str().into(), QueueBindOptions::default());
            bound = channel.queue_bind(queue, exchange.into(), key.into(), options, FieldTable::default()).await;
            if bound.is_err() {
                break;
            }
        }
        self.found(&channel, "binding the queue", bound).await
    }

    /// Returns whether the bindings have not been lost since they were made: whether the exchange exists that a restart removes.
    async fn marked(&self) -> Result<bool, AmqpError> {
        let channel = self.channel().await?;
        let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let name = self.marker().into();
        let found = channel.exchange_declare(name, ExchangeKind::Fanout, passive, FieldTable::default()).await;
        self.found(&channel, "looking for the mark of the bindings", found).await
    }

    async fn mark(&self) -> Result<(), AmqpError> {
        let channel = self.channel().await?;
        let name = self.marker().into();
        let options = ExchangeDeclareOptions::default();
        let declared = channel.exchange_declare(name, ExchangeKind::Fanout, options, FieldTable::default()).await;
        self.found(&channel, "marking the bindings", declared).await.map(|_| ())
    }

    /// Returns whether what was asked for exists, and closes the channel: the broker has closed it if it does not.
    async fn found(
        &self,
        channel: &Channel,
        doing: &'static str,
        result: lapin::Result<()>,
    ) -> Result<bool, AmqpError> {
        match result {
            Ok(()) => {
                let _ = channel.close(200, "done".into()).await;
                Ok(true)
            }
            Err(error) if soft(&error) == Some(AMQPSoftError::NOTFOUND) => Ok(false),
            Err(error) => Err(self.about.error(doing, error)),
        }
    }

    fn exchanges(&self) -> [(&str, &[String]); 2] {
        let settings = self.settings;
        [(&settings.nova_exchange, &settings.nova_topics), (&settings.neutron_exchange, &settings.neutron_topics)]
    }

    /// Name of the queue that holds the last message that was dropped.
    fn dropped(&self) -> String {
        format!("{}.dropped", self.settings.queue)
    }

    /// Name of the exchange that exists as long as bindings do.
    fn marker(&self) -> String {
        format!("{}.bound", self.settings.queue)
    }

    fn arguments(&self) -> FieldTable {
        let mut arguments = self.limits(self.settings.length_limit);
        arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
        arguments.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(self.dropped().into()));
        arguments
    }

    fn dropped_arguments(&self) -> FieldTable {
        self.limits(1)
    }

    fn limits(&self, length: u32) -> FieldTable {
        let mut arguments = FieldTable::default();
        let text = |text: &str| AMQPValue::LongString(text.into());
        let expiry = i64::try_from(self.settings.expiry.as_millis()).unwrap_or(i64::MAX);
        arguments.insert("x-queue-type".into(), text("quorum"));
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(length.into()));
        arguments.insert("x-overflow".into(), text("drop-head"));
        arguments.insert("x-expires".into(), AMQPValue::LongLongInt(expiry));
        arguments
    }
}

fn gap_of(why: GapReason) -> Notification {
    Notification { event: Event::Gap { why }, urgency: Urgency::Change, sent_at: None, receipt: Receipt::none() }
}

/// Returns the URL as lapin has it. It is never shown.
fn uri(settings: &RabbitMq, broker: &Broker) -> AMQPUri {
    // Who has a certificate and no password is known by the certificate.
    let external = broker.tls && settings.identity.is_some() && !broker.has_user;
    AMQPUri {
        scheme: if broker.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: broker.user.clone(),
                password: String::from_utf8_lossy(broker.password.expose()).into_owned(),
            },
            host: broker.host.clone(),
            port: broker.port,
        },
        vhost: broker.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: Some(HEARTBEAT),
            auth_mechanism: external.then_some(SASLMechanism::External),
            ..AMQPQueryString::default()
        },
    }
}
