//! Notifications of a simulated OpenStack, to a real RabbitMQ: as Nova sends them, in the envelope of oslo.messaging.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use serde_json::Value;
use uuid::Uuid;

const EXCHANGE: &str = "nova";
const TOPIC: &str = "versioned_notifications.info";

/// What sends them.
#[derive(Debug)]
pub(super) struct Notices {
    channel: Channel,
    /// A message that a real Nova sent.
    message: Value,
    _connection: Connection,
}

impl Notices {
    /// Connects to a broker, and declares the exchanges of Nova and Neutron as they do.
    pub(super) async fn connect(url: &str) -> Result<Self> {
        let connection =
            Connection::connect(url, ConnectionProperties::default()).await.context("connecting to RabbitMQ")?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        for exchange in [EXCHANGE, "neutron"] {
            let options = ExchangeDeclareOptions::default();
            channel.exchange_declare(exchange.into(), ExchangeKind::Topic, options, FieldTable::default()).await?;
        }
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("controllers/openstack/notifications/instance.update.metadata.json");
        let recorded: Value = serde_json::from_slice(&fs::read(&recorded).context("reading a recorded notification")?)?;
        let inner = |text: &Value| serde_json::from_str::<Value>(text.as_str().unwrap_or_default());
        let message = inner(&inner(&recorded["body"])?["oslo.message"]).context("reading a recorded notification")?;
        Ok(Self { channel, message, _connection: connection })
    }

    /// Sends that servers have changed, and waits until the broker has all of it.
    pub(super) async fn send(&self, event: &str, servers: &[Uuid]) -> Result<()> {
        let mut confirmations = Vec::with_capacity(servers.len());
        for server in servers {
            let mut message = self.message.clone();
            message["event_type"] = event.into();
            message["payload"]["nova_object.data"]["uuid"] = server.to_string().into();
            let now = Timestamp::now().strftime("%Y-%m-%d %H:%M:%S.%6f").to_string();
            message["timestamp"] = now.into();
            let body = serde_json::json!({"oslo.version": "2.0", "oslo.message": message.to_string()}).to_string();
            let properties = BasicProperties::default().with_delivery_mode(2);
            let options = BasicPublishOptions::default();
            let sent = self.channel.basic_publish(EXCHANGE.into(), TOPIC.into(), options, body.as_bytes(), properties);
            confirmations.push(sent.await.context("sending a notification")?);
        }
        for confirmation in confirmations {
            confirmation.await.context("waiting for RabbitMQ")?;
        }
        Ok(())
    }
}
