//! The demo's page, which works without scripts.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use session_core::{Manager, SessionHandle};

use crate::messages::Audience;
use crate::reply::Outcome;
use crate::{account, devices, messages, reply, visit};

/// `GET /`.
pub(crate) async fn home(
    handle: &SessionHandle<'static>,
    manager: &Manager,
    address: SocketAddr,
    audience: Audience,
) -> Outcome {
    let session = handle.load().await?;
    // This comes first, because a new session has no id for the page's links before it has a value.
    let visits = visit::next(&session, manager.now()).await?;
    let name = account::username(&session)?;
    let sessions = devices::table(&session, manager).await?;
    // This comes last: messages that were taken are gone, so no error may follow before they are shown.
    let messages = messages::take(&session, audience).await?;

    let mut shown = String::new();
    for message in &messages {
        let _ = write!(shown, "<li>{}</li>", escape(message));
    }
    if !shown.is_empty() {
        shown = format!("<ul class=\"messages\" role=\"status\">{shown}</ul>");
    }
    let (kept, on, change) = match session.is_remembered() {
        true => ("after the browser ends", false, "Forget me when the browser ends"),
        false => ("until the browser ends", true, "Remember me"),
    };
    // The links are plain. If they need an id, the wrapper around the handlers adds it.
    let body = format!(
        r#"<h1>Session demo</h1>
{shown}
<dl>
<dt>Visits so far</dt><dd id="visits">{visits}</dd>
<dt>Logged in as</dt><dd id="username">{name}</dd>
<dt>Provider</dt><dd id="provider">{provider}</dd>
<dt>Ends without use in</dt><dd id="remaining">{remaining}</dd>
<dt>Cookie kept</dt><dd id="kept">{kept}</dd>
</dl>
<nav aria-label="Pages">
<a href="/">This page</a>
<a href="/count">Count</a>
<a href="/whoami">Who am I</a>
<a href="/hello">Hello</a>
<a href="/private">Private page</a>
<a href="/login">Login page</a>
<a href="/sessions">Sessions</a>
<a href="/values">All values</a>
<a href="/values/count">One value</a>
<a href="/flash">Messages</a>
<a href="/stats">Statistics</a>
</nav>
{LOGIN_FORM}
<form action="/count" id="count"><button>Count by a form</button></form>
<form method="post" action="/logout" id="logout"><button>Log out</button></form>
<form method="post" action="/add/n?n=1&amp;form" id="add"><button>Add 1 to the value n</button></form>
<form method="post" action="/flash?form=message" id="flash">
<label for="message">Message</label> <input id="message" name="message" required>
<button>Show at the next visit</button></form>
<form method="post" action="/slow/draft?ms=2000&amp;form=draft" id="slow">
<label for="draft">Draft, as JSON</label> <input id="draft" name="draft" value="&quot;text&quot;" required>
<button>Save after two seconds</button></form>
<form method="post" action="/regenerate?form" id="regenerate"><button>Get a new id</button></form>
<form method="post" action="/remember?on={on}&amp;form" id="remember"><button>{change}</button></form>
{sessions}
<h2>Without a browser</h2>
<p>Forms can neither set nor delete a single value; <code>curl</code> can:</p>
<pre>curl -b jar -c jar -X PUT -d '{{"tea": 2}}' http://{address}/values/cart
curl -b jar -c jar http://{address}/values/cart
curl -b jar -c jar -X DELETE http://{address}/values/cart</pre>"#,
        name = name.as_deref().map_or("nobody".into(), escape),
        provider = escape(manager.provider_name()),
        remaining = duration(session.remaining()),
    );
    Ok(reply::html(page("Session demo", &body)))
}

/// `GET /login`.
pub(crate) async fn login(handle: &SessionHandle<'static>) -> Outcome {
    handle.load().await?;
    let body = format!(
        "<h1>Log in</h1>\n{LOGIN_FORM}\n\
         <nav aria-label=\"Pages\"><a href=\"/\">Back to the demo</a></nav>"
    );
    Ok(reply::html(page("Log in", &body)))
}

const LOGIN_FORM: &str = r#"<form method="post" action="/login" id="login">
<label for="name">Name</label> <input id="name" name="username" autocomplete="username" required>
<button>Log in</button></form>"#;

fn page(title: &str, body: &str) -> String {
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"#
    )
}

const STYLE: &str = "
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0; }
main { max-width: 42rem; margin: 0 auto; padding: 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.5rem; }
dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: .5rem 1rem; margin: 1rem 0; }
form { margin: .75rem 0; }
input, button { font: inherit; padding: .3rem .6rem; max-width: 100%; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: start; padding: .25rem .5rem; border-block-end: 1px solid; overflow-wrap: anywhere; }
td form { margin: 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: .75rem; border: 1px solid; border-radius: .3rem; }
.messages { border-inline-start: .3rem solid; padding: .5rem 2rem; overflow-wrap: anywhere; }
";

/// Escapes a visitor's text for an element or a quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Formats a duration in hours, minutes and seconds.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, s) => format!("{h} h {m} min {s} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_can_not_become_markup() {
        assert_eq!(escape("<b a='\"'>&"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;");
    }

    #[test]
    fn durations_are_readable() {
        assert_eq!(duration(Duration::from_millis(59_999)), "59 s");
        assert_eq!(duration(Duration::from_secs(1799)), "29 min 59 s");
        assert_eq!(duration(Duration::from_secs(12 * 3600)), "12 h 0 min 0 s");
    }
}
