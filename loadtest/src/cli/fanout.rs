//! The arguments of a fan-out in all its forms.

use clap::Args;

use super::{Address, Common, Speech, fresh_name, rate};
use crate::dialect::{Manner, Tongue};
use crate::pattern::PUBLISHERS_MAX;
use crate::scenario::fanout::{Churn, Options, Pace, Slow};
use crate::scenario::{Kind, echo, mixed};

/// What every fan-out takes.
#[derive(Args)]
struct Base {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    address: Address,
    #[command(flatten)]
    audience: Audience,
    #[command(flatten)]
    speech: Speech,
}

#[derive(Args)]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    base: Base,
    /// Closed loop: messages on their way to their subscribers at a time, all publishers together
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    window: u64,
    /// Open loop: messages per second, all publishers together; latency counts from the time a message was to be sent
    #[arg(long, conflicts_with_all = ["window", "unbounded"], value_parser = rate)]
    rate: Option<f64>,
    /// No loop: publishers send whatever the server takes from them; latency counts from the time they could
    #[arg(long, conflicts_with = "window")]
    unbounded: bool,
    /// Counts what is lost and who is cut, instead of failing
    #[arg(long, conflicts_with = "window")]
    losses_allowed: bool,
    #[command(flatten)]
    slow: SlowShare,
}

/// Who hears what.
#[derive(Args)]
struct Audience {
    /// Subscribers, on all topics together
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    subscribers: u32,
    /// Topics, among which subscribers and publishers are dealt out in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    topics: u32,
    /// Publishers, each of which also hears its topic; as many as topics by default
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    publishers: Option<u32>,
}

/// Which of them read slowly.
#[derive(Args)]
struct SlowShare {
    /// The share of subscribers, from 0 to 1, that read slowly
    #[arg(long = "slow-share", default_value_t = 0.0, value_parser = share)]
    slow_share: f64,
    /// How fast each of them reads, in bytes a second; 0: not at all
    #[arg(long, default_value_t = 0)]
    slow_rate: u64,
}

#[derive(Args)]
pub(crate) struct ChurnArgs {
    #[command(flatten)]
    base: Base,
    /// Messages per second, all publishers together; latency counts from the time a message was to be sent
    #[arg(long, default_value_t = 200.0, value_parser = rate)]
    rate: f64,
    /// How many of the subscribers leave in turn and are replaced; half of them by default
    #[arg(long)]
    movers: Option<u32>,
    /// How many leave in a second: one with a Close, the next without, the third by a reset
    #[arg(long, default_value_t = 100.0, value_parser = rate)]
    moves: f64,
}

#[derive(Args)]
pub(crate) struct SlowArgs {
    #[command(flatten)]
    base: Base,
    /// Messages per second, all publishers together; latency counts from the time a message was to be sent
    #[arg(long, default_value_t = 500.0, value_parser = rate)]
    rate: f64,
    /// The share of subscribers that read slowly, from 0 to 1
    #[arg(long, default_value_t = 0.01, value_parser = share)]
    share: f64,
    /// How fast each of them reads, in bytes a second; 0: not at all
    #[arg(long, default_value_t = 0)]
    slow_rate: u64,
}

#[derive(Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    base: Base,
    /// Closed loop: messages on their way to their subscribers at a time, all publishers together
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    window: u64,
    /// Open loop: messages per second, all publishers together; latency counts from the time a message was to be sent
    #[arg(long, conflicts_with = "window", value_parser = rate)]
    rate: Option<f64>,
    /// Messages are bytes, which travel as base64
    #[arg(long, conflicts_with = "text")]
    binary: bool,
}

#[derive(Args)]
pub(crate) struct MixedArgs {
    #[command(flatten)]
    base: Base,
    /// Messages per second, all publishers together; latency counts from the time a message was to be sent
    #[arg(long, default_value_t = 200.0, value_parser = rate)]
    rate: f64,
    /// How many of the subscribers listen to event streams; a quarter of them by default
    #[arg(long)]
    streams: Option<u32>,
    /// Publishers more that speak by POST, a request for each message
    #[arg(long, default_value_t = 4)]
    posters: u32,
    /// How many of the subscribers leave in turn and are replaced; a quarter of them by default
    #[arg(long)]
    movers: Option<u32>,
    /// How many leave in a second
    #[arg(long, default_value_t = 50.0, value_parser = rate)]
    moves: f64,
    /// Connections that hear their own words
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    echoes: u32,
    /// What those say in a second, all together
    #[arg(long, default_value_t = 1000.0, value_parser = rate)]
    echo_rate: f64,
    /// Where that comes back
    #[arg(long, default_value = "/echo", value_parser = super::path)]
    echo_path: String,
}

/// What makes one fan-out differ from another.
struct Form {
    pace: Pace,
    posters: u32,
    streams: u32,
    slow: Slow,
    churn: Churn,
    losses_allowed: bool,
}

impl Form {
    fn plain(pace: Pace) -> Form {
        let (slow, churn) = (Slow::default(), Churn::default());
        Form { pace, posters: 0, streams: 0, slow, churn, losses_allowed: false }
    }
}

impl Base {
    fn into_options(self, form: Form) -> Result<(Common, Options), String> {
        let Base { common, address, audience, speech } = self;
        let Audience { subscribers, topics, publishers } = audience;
        let publishers = publishers.unwrap_or(topics) + form.posters;
        if publishers > PUBLISHERS_MAX || publishers < topics {
            return Err(format!("{topics} topics with {publishers} publishers: each needs one"));
        }
        if form.slow.subscribers + form.churn.subscribers > subscribers {
            let (slow, movers) = (form.slow.subscribers, form.churn.subscribers);
            return Err(format!(
                "{subscribers} subscribers, of which {slow} are slow and {movers} leave: too many"
            ));
        }
        let options = Options {
            subscribers,
            others: 0,
            publishers,
            posters: form.posters,
            topics,
            name: fresh_name(),
            size: speech.size,
            text: speech.text,
            filling: speech.filling,
            manner: address.manner(),
            streams: form.streams.min(subscribers),
            slow: form.slow,
            churn: form.churn,
            losses_allowed: form.losses_allowed,
            pace: form.pace,
            extent: speech.extent(),
        };
        Ok((common, options))
    }
}

impl Audience {
    fn slow(&self, share: f64, bytes_per_second: u64) -> Slow {
        Slow { subscribers: (f64::from(self.subscribers) * share).round() as u32, bytes_per_second }
    }
}

impl FanoutArgs {
    pub(super) fn into_kind(self) -> Result<(Common, Kind), String> {
        let pace = match self.rate {
            Some(rate) => Pace::Rate(rate),
            None if self.unbounded => Pace::Unbounded,
            None => Pace::Window(self.window),
        };
        let slow = self.base.audience.slow(self.slow.slow_share, self.slow.slow_rate);
        let form = Form { slow, losses_allowed: self.losses_allowed, ..Form::plain(pace) };
        let (common, options) = self.base.into_options(form)?;
        Ok((common, Kind::Fanout(options)))
    }
}

impl ChurnArgs {
    pub(super) fn into_kind(self) -> Result<(Common, Kind), String> {
        let subscribers = self.movers.unwrap_or(self.base.audience.subscribers / 2);
        let churn = Churn { subscribers, rate: self.moves };
        let form = Form { churn, ..Form::plain(Pace::Rate(self.rate)) };
        let (common, options) = self.base.into_options(form)?;
        Ok((common, Kind::Churn(options)))
    }
}

impl SlowArgs {
    pub(super) fn into_kind(self) -> Result<(Common, Kind), String> {
        let slow = self.base.audience.slow(self.share, self.slow_rate);
        if slow.subscribers == 0 {
            let (share, all) = (self.share, self.base.audience.subscribers);
            return Err(format!("a share of {share} of {all} subscribers is nobody"));
        }
        let form = Form { slow, losses_allowed: true, ..Form::plain(Pace::Rate(self.rate)) };
        let (common, options) = self.base.into_options(form)?;
        Ok((common, Kind::Slow(options)))
    }
}

impl EventsArgs {
    pub(super) fn into_kind(mut self) -> Result<(Common, Kind), String> {
        if self.base.address.deflate {
            return Err("event streams are not compressed: --deflate is for WebSockets".to_owned());
        }
        self.base.speech.text = !self.binary;
        let pace = self.rate.map_or(Pace::Window(self.window), Pace::Rate);
        let form = Form { streams: u32::MAX, ..Form::plain(pace) };
        let (common, options) = self.base.into_options(form)?;
        Ok((common, Kind::Events(options)))
    }
}

impl MixedArgs {
    pub(super) fn into_kind(self) -> Result<(Common, Kind), String> {
        let quarter = self.base.audience.subscribers / 4;
        let churn = Churn { subscribers: self.movers.unwrap_or(quarter), rate: self.moves };
        let (posters, streams) = (self.posters, self.streams.unwrap_or(quarter));
        let form = Form { posters, streams, churn, ..Form::plain(Pace::Rate(self.rate)) };
        let (common, mut fanout) = self.base.into_options(form)?;
        fanout.others = self.echoes;
        let echo = echo::Options {
            connections: self.echoes,
            depth: 1,
            rate: Some(self.echo_rate),
            size: fanout.size,
            text: fanout.text,
            filling: fanout.filling,
            manner: Manner { tongue: Tongue::WebSocket, path: self.echo_path, lenient: false },
            extent: fanout.extent,
        };
        Ok((common, Kind::Mixed(mixed::Options { fanout, echo })))
    }
}

fn share(text: &str) -> Result<f64, String> {
    super::number(text, 0.0, 1.0)
}
