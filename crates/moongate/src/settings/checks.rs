//! What no setting can know by itself: whether they fit together.

use moongate_wire::protocol::SUBPROTOCOLS;
use moongate_wire::route::Service;
use moongate_wire::{ENCODED_EXTRA_BYTES_MAX, ENCODED_TIMES_MAX};

use super::value::size_text;
use super::{Anonymous, Problem, Settings};

/// What a frame's header can add to a message (RFC 6455 §5.2).
const FRAME_HEADER_BYTES_MAX: usize = 14;

/// Everything that does not fit together.
pub(super) fn across(settings: &Settings) -> Vec<Problem> {
    let checks = [
        outbox_holds_a_message,
        memory_holds_a_message,
        publishing_is_confirmed,
        control_is_guarded,
        addresses_differ,
        routes_are_said_once,
        routes_can_be_opened,
    ];
    checks.iter().filter_map(|check| check(settings)).map(Problem).collect()
}

fn outbox_holds_a_message(settings: &Settings) -> Option<String> {
    let (outbox, message) = (settings.outbox_bytes_max, settings.message_bytes_max);
    (outbox <= message + FRAME_HEADER_BYTES_MAX).then(|| {
        format!(
            "MOONGATE_OUTBOX_BYTES_MAX: saw {}, wants more than MOONGATE_MESSAGE_BYTES_MAX ({}) and the \
             {FRAME_HEADER_BYTES_MAX} bytes of a frame's header, so that one message always fits",
            size_text(outbox),
            size_text(message)
        )
    })
}

/// What fits together and still is probably not meant so.
pub(super) fn doubts(settings: &Settings) -> Vec<String> {
    outbox_holds_any_form(settings).into_iter().collect()
}

/// A frame has been seen to fit. An event and a subprotocol's JSON are longer than what they carry.
fn outbox_holds_any_form(settings: &Settings) -> Option<String> {
    let (outbox, message) = (settings.outbox_bytes_max, settings.message_bytes_max);
    let longest = message.saturating_mul(ENCODED_TIMES_MAX).saturating_add(ENCODED_EXTRA_BYTES_MAX);
    if outbox >= longest || outbox_holds_a_message(settings).is_some() {
        return None;
    }
    Some(format!(
        "MOONGATE_OUTBOX_BYTES_MAX is {}, and a message of MOONGATE_MESSAGE_BYTES_MAX ({}) can take {ENCODED_TIMES_MAX} \
         times its size in an event stream or a subprotocol, where line ends, control characters and bytes are written out: \
         who has not read all before it is then too slow for it; raise the one to {}, or lower the other",
        size_text(outbox),
        size_text(message),
        size_text(longest)
    ))
}

fn memory_holds_a_message(settings: &Settings) -> Option<String> {
    let (memory, message) = (settings.memory_bytes_max?, settings.message_bytes_max);
    // What `auto` shards will be is known only at start, which checks it again.
    let shards = settings.shards.unwrap_or(1);
    (memory / (shards as usize) < message).then(|| {
        format!(
            "MOONGATE_MEMORY_BYTES_MAX: saw {}, wants at least MOONGATE_MESSAGE_BYTES_MAX ({}) for every shard",
            size_text(memory),
            size_text(message)
        )
    })
}

fn publishing_is_confirmed(settings: &Settings) -> Option<String> {
    if settings.anonymous_wanted != Some(Anonymous::Publish) || settings.insecure {
        return None;
    }
    let public = settings.listen.iter().find(|address| !address.ip().to_canonical().is_loopback())?;
    Some(format!(
        "MOONGATE_ANONYMOUS: saw \"publish\" while MOONGATE_LISTEN has {public}, where anyone who reaches it could \
         speak on every topic; wants subscribe, listeners on loopback only, or MOONGATE_INSECURE=1 to confirm it"
    ))
}

fn control_is_guarded(settings: &Settings) -> Option<String> {
    let control = settings.control?;
    if control.ip().to_canonical().is_loopback() || settings.control_token.is_some() {
        return None;
    }
    Some(format!(
        "MOONGATE_CONTROL: saw {control}, which is not on loopback, without a token; wants MOONGATE_CONTROL_TOKEN or \
         MOONGATE_CONTROL_TOKEN_FILE, or an address on loopback"
    ))
}

fn addresses_differ(settings: &Settings) -> Option<String> {
    let fixed = settings.listen.iter().chain(&settings.control).filter(|address| address.port() != 0);
    let fixed: Vec<_> = fixed.collect();
    let twice = fixed
        .iter()
        .enumerate()
        .find_map(|(at, address)| fixed[..at].contains(address).then_some(*address))?;
    Some(format!("MOONGATE_LISTEN and MOONGATE_CONTROL: saw {twice} twice, wants each address once"))
}

fn routes_are_said_once(settings: &Settings) -> Option<String> {
    settings.routes_wanted.as_ref()?;
    let (name, line) = match (settings.echo_wanted, settings.page_wanted) {
        (Some(_), _) => ("MOONGATE_ECHO", "/echo echo"),
        (_, Some(_)) => ("MOONGATE_PAGE", "/ page"),
        (None, None) => return None,
    };
    Some(format!(
        "{name}: set together with MOONGATE_ROUTES, which replaces it; wants it unset, and where it was to be on \
         {line:?} among the routes"
    ))
}

/// The table says by itself of which routes it is wrong; what the setting leaves them with it cannot know.
fn routes_can_be_opened(settings: &Settings) -> Option<String> {
    settings.routes_wanted.as_ref()?;
    let routes = settings.routes();
    let silent = routes
        .iter()
        .find(|route| matches!(&route.service, Service::Connect(spoken) if spoken.list().is_empty()))?;
    let names: Vec<&str> = SUBPROTOCOLS.iter().map(|known| known.name).collect();
    Some(format!(
        "MOONGATE_ROUTES: nobody could ever connect at {:?}, since MOONGATE_SUBPROTOCOLS is off; wants subprotocols= with \
         names of {} behind it, or the route left out",
        silent.to_string(),
        names.join(" or ")
    ))
}
