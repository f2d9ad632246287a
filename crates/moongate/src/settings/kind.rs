//! What kinds of settings there are. A kind knows its bounds, where in [`Settings`] its value lives, how to read it and
//! how to say what it wants; so an error text and the documentation cannot disagree with the parser.

use std::net::SocketAddr;
use std::time::Duration;

use moongate_wire::origin::{Origin, Origins};
use moongate_wire::protocol::{SUBPROTOCOLS, Subprotocol, wamp};
use moongate_wire::route::Routes;
use tracing_subscriber::filter::Targets;

use super::{Secret, Settings, value};

/// The place in [`Settings`] that a setting fills.
pub(super) type Place<T> = fn(&mut Settings) -> &mut T;

/// Writes the one value that a word stands for.
pub(super) type Write = fn(&mut Settings);

/// How the text of a setting becomes its value.
pub(super) enum Kind {
    /// One address or several.
    Addresses { most: usize, place: Place<Vec<SocketAddr>> },
    /// One address, or `off`.
    AddressOrOff { place: Place<Option<SocketAddr>> },
    /// A number of bytes.
    Size { least: usize, most: usize, place: Place<usize> },
    /// A number of bytes, or `auto`.
    SizeOrAuto { least: usize, most: usize, place: Place<Option<usize>> },
    /// A number.
    Count { least: u32, most: u32, place: Place<u32> },
    /// A number that is a power of two.
    PowerOfTwo { least: u32, most: u32, place: Place<u32> },
    /// A number, or `auto`.
    CountOrAuto { least: u32, most: u32, place: Place<Option<u32>> },
    /// A duration.
    Time { least: Duration, most: Duration, place: Place<Duration> },
    /// On or off.
    Switch { place: Place<bool> },
    /// On, off or `auto`.
    SwitchOrAuto { place: Place<Option<bool>> },
    /// One of a few words, each of which writes its own value.
    Word { words: &'static [(&'static str, Write)] },
    /// Values of the `Host` field, or nothing.
    Hosts { place: Place<Vec<String>> },
    /// Origins, or nothing.
    OriginList { place: Place<Vec<Origin>> },
    /// `same`, `*` or origins.
    Origins { place: Place<Origins> },
    /// What to log: a level, or levels by target.
    Filter { place: Place<Targets> },
    /// Subprotocols, or `off`.
    Subprotocols { place: Place<Vec<Subprotocol>> },
    /// A URI as WAMP has them.
    WampUri { place: Place<String> },
    /// A table of routes, or nothing.
    Routes { place: Place<Option<Routes>> },
    /// Something nobody else may see.
    Secret { place: Place<Option<Secret>> },
}

impl Kind {
    /// Reads `text` and writes its value into `settings`; `None`, with nothing written, if it is not of this kind.
    pub(super) fn apply(&self, settings: &mut Settings, text: &str) -> Option<()> {
        match self {
            Kind::Addresses { most, place } => {
                let addresses: Vec<_> = value::members(text).map(value::address).collect::<Option<_>>()?;
                let right = !addresses.is_empty() && addresses.len() <= *most;
                *place(settings) = right.then_some(addresses)?;
            }
            Kind::AddressOrOff { place } => *place(settings) = unless("off", text, value::address)?,
            Kind::Size { least, most, place } => *place(settings) = sized(text, *least, *most)?,
            Kind::SizeOrAuto { least, most, place } => {
                *place(settings) = unless("auto", text, |text| sized(text, *least, *most))?;
            }
            Kind::Count { least, most, place } => *place(settings) = counted(text, *least, *most)?,
            Kind::PowerOfTwo { least, most, place } => {
                *place(settings) = counted(text, *least, *most).filter(|count| count.is_power_of_two())?;
            }
            Kind::CountOrAuto { least, most, place } => {
                *place(settings) = unless("auto", text, |text| counted(text, *least, *most))?;
            }
            Kind::Time { least, most, place } => {
                *place(settings) = value::duration(text).filter(|time| (least..=most).contains(&time))?;
            }
            Kind::Switch { place } => *place(settings) = value::switch(text)?,
            Kind::SwitchOrAuto { place } => *place(settings) = unless("auto", text, value::switch)?,
            Kind::Word { words } => {
                let (_, write) = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text))?;
                write(settings);
            }
            Kind::Hosts { place } => {
                *place(settings) = value::members(text).map(value::host).collect::<Option<_>>()?;
            }
            Kind::OriginList { place } => {
                *place(settings) = value::members(text).map(value::origin).collect::<Option<_>>()?;
            }
            Kind::Origins { place } => *place(settings) = Origins::parse(text).ok()?,
            Kind::Filter { place } => *place(settings) = value::log_filter(text)?,
            Kind::Subprotocols { place } => {
                *place(settings) = unless("off", text, value::subprotocols)?.unwrap_or_default();
            }
            Kind::WampUri { place } => {
                *place(settings) = wamp::is_uri(text).then(|| text.to_owned())?;
            }
            Kind::Routes { place } => *place(settings) = Some(Routes::parse(text).ok()?),
            Kind::Secret { place } => *place(settings) = Some(Secret::new(value::secret(text)?)),
        }
        Some(())
    }

    /// What this kind wants, as the object of "wants".
    pub(super) fn wants(&self) -> String {
        match self {
            Kind::Addresses { most, .. } => {
                format!("1 to {most} addresses with ports, such as 127.0.0.1:8080 or 0.0.0.0:8080,[::]:8080")
            }
            Kind::AddressOrOff { .. } => {
                "an address with a port, such as 127.0.0.1:8081 or [::1]:8081, or off".into()
            }
            Kind::Size { least, most, .. } => size_wanted(*least, *most),
            Kind::SizeOrAuto { least, most, .. } => format!("auto, or {}", size_wanted(*least, *most)),
            Kind::Count { least, most, .. } => format!("a number from {least} to {most}"),
            Kind::PowerOfTwo { least, most, .. } => format!("a power of two from {least} to {most}"),
            Kind::CountOrAuto { least, most, .. } => format!("auto, or a number from {least} to {most}"),
            Kind::Time { least, most, .. } => {
                let (least, most) = (value::duration_text(*least), value::duration_text(*most));
                format!("a duration from {least} to {most}, such as 1500ms, 30s or 5m")
            }
            Kind::Switch { .. } => "on or off".into(),
            Kind::SwitchOrAuto { .. } => "auto, on or off".into(),
            Kind::Word { words } => alternatives(words.iter().map(|(word, _)| *word)),
            Kind::Hosts { .. } => {
                "host names or addresses, with or without ports, such as gate.example:8081".into()
            }
            Kind::OriginList { .. } => "origins, such as https://app.example,http://localhost:3000".into(),
            Kind::Origins { .. } => {
                "same, *, or origins, such as https://app.example,http://localhost:3000".into()
            }
            Kind::Filter { .. } => {
                "off, error, warn, info, debug or trace, for all or by part, such as info,moongate_gate=debug"
                    .into()
            }
            Kind::Subprotocols { .. } => {
                format!(
                    "off, or subprotocols of {}",
                    alternatives(SUBPROTOCOLS.iter().map(|known| known.name))
                )
            }
            Kind::WampUri { .. } => "words parted by dots, such as realm1 or com.example.app".into(),
            Kind::Routes { .. } => {
                "routes, such as /topics/* topics; /chat/* tunnel app.internal:3000; / page".into()
            }
            Kind::Secret { .. } => "1 to 4096 visible ASCII characters without blanks".into(),
        }
    }

    /// What is wrong with `text`, where more can be said than what was wanted.
    pub(super) fn explain(&self, text: &str) -> Vec<String> {
        match self {
            Kind::Routes { .. } => {
                Routes::parse(text).err().into_iter().flatten().map(|error| error.to_string()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether the value can stand in a file, named by the setting's twin with `_FILE` at the end.
    pub(super) fn has_twin(&self) -> bool {
        matches!(self, Kind::Secret { .. } | Kind::Routes { .. })
    }

    /// What such a file holds, for error texts.
    pub(super) fn content(&self) -> &'static str {
        if self.is_secret() { "the secret" } else { "routes" }
    }

    /// Whether the value must never be shown.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self, Kind::Secret { .. })
    }
}

/// `None` for the one word that stands for no value, else what `read` makes of the text.
fn unless<T>(word: &str, text: &str, read: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    if text.eq_ignore_ascii_case(word) { Some(None) } else { read(text).map(Some) }
}

fn sized(text: &str, least: usize, most: usize) -> Option<usize> {
    value::size(text).filter(|size| (least..=most).contains(size))
}

fn counted(text: &str, least: u32, most: u32) -> Option<u32> {
    let count = u32::try_from(value::count(text)?).ok()?;
    (least..=most).contains(&count).then_some(count)
}

fn size_wanted(least: usize, most: usize) -> String {
    let (least, most) = (value::size_text(least), value::size_text(most));
    format!("a size from {least} to {most}, such as 65536, 64KiB or 1MiB")
}

/// `a, b or c`.
fn alternatives<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let words: Vec<_> = words.collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}
