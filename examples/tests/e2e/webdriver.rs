//! A browser that is driven over WebDriver (W3C Recommendation). The protocol is JSON over HTTP, so it
//! uses the HTTP client of the other tests.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::client::Client;
use crate::demo::Printed;

/// WebDriver's key for element references.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A headless Chromium with an empty profile. It stops when dropped.
pub(crate) struct Browser {
    driver: Child,
    client: Client,
    session: String,
    profile: PathBuf,
}

impl Browser {
    /// Starts a browser that accepts cookies, or refuses all.
    pub(crate) fn start(name: &str, cookies: bool) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed; scripts/test does it");
        let printed = Arc::new(Printed::default());
        printed.collect(driver.stdout.take().expect("is piped"));
        let line = printed.wait_for("started successfully on port");
        let port = line.trim_end_matches('.').rsplit(' ').next().expect("has words");
        let port: u16 = port.parse().expect("ends with the port");

        let profile = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{}-{name}", std::process::id()));
        // The sandbox doesn't work for root. The other flags keep the browser off the network.
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            // Over plain HTTP, a browser trusts these names less than `localhost`.
            "--host-resolver-rules=MAP *.test 127.0.0.1",
            "--window-size=900,1100",
        ];
        let profile_flag = format!("--user-data-dir={}", profile.display());
        let arguments: Vec<&str> = arguments.into_iter().chain([profile_flag.as_str()]).collect();
        let setting = if cookies { 1 } else { 2 };
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "timeouts": {"implicit": 30_000},
            "goog:chromeOptions": {
                "args": arguments,
                "prefs": {"profile.default_content_setting_values.cookies": setting},
            },
        }}});
        let client = Client::new(([127, 0, 0, 1], port).into());
        let mut browser = Self { driver, client, session: String::new(), profile };
        let started = browser.command("POST", "/session", &wanted);
        let id = started["sessionId"].as_str().expect("a session");
        browser.session = format!("/session/{id}");
        browser
    }

    pub(crate) fn open(&self, url: &str) {
        self.act("/url", &json!({"url": url}));
    }

    /// Presses the back button.
    pub(crate) fn back(&self) {
        self.act("/back", &json!({}));
    }

    /// Presses the reload button, and confirms if the browser asks whether to send a form again.
    pub(crate) fn reload(&self) {
        self.act("/refresh", &json!({}));
    }

    /// Makes the page open a second tab, and switches to it. Returns the first tab.
    pub(crate) fn open_tab(&self, target: &str) -> String {
        let page = self.tab();
        self.run(&format!("window.open('{target}')"));
        let tabs = self.command("GET", &format!("{}/window/handles", self.session), &Value::Null);
        let mut tabs = tabs.as_array().expect("a list").iter().filter_map(Value::as_str);
        self.go_to_tab(tabs.find(|tab| *tab != page).expect("there are two"));
        page
    }

    /// Returns the current tab.
    pub(crate) fn tab(&self) -> String {
        let tab = self.command("GET", &format!("{}/window", self.session), &Value::Null);
        tab.as_str().expect("text").to_owned()
    }

    pub(crate) fn go_to_tab(&self, tab: &str) {
        self.act("/window", &json!({"handle": tab}));
    }

    /// Returns the current URL.
    pub(crate) fn url(&self) -> String {
        let url = self.command("GET", &format!("{}/url", self.session), &Value::Null);
        url.as_str().expect("text").to_owned()
    }

    /// Returns the number of the page's cookies.
    pub(crate) fn cookies(&self) -> usize {
        let cookies = self.command("GET", &format!("{}/cookie", self.session), &Value::Null);
        cookies.as_array().expect("a list").len()
    }

    /// Returns the visible text of the first element that this CSS selects.
    pub(crate) fn text(&self, css: &str) -> String {
        let target = format!("{}/element/{}/text", self.session, self.element(css));
        self.command("GET", &target, &Value::Null).as_str().expect("text").to_owned()
    }

    /// Waits for an element with this id and text. It is for the page after a click, which the driver
    /// doesn't wait for.
    pub(crate) fn wait_for(&self, id: &str, text: &str) {
        let path = format!("//*[@id='{id}'][normalize-space(.)='{text}']");
        self.act("/element", &json!({"using": "xpath", "value": path}));
    }

    /// Waits for an element with this tag name and text. Browsers show plain text in a `pre`.
    pub(crate) fn wait_for_element(&self, name: &str, text: &str) {
        let path = format!("//{name}[normalize-space(.)='{text}']");
        self.act("/element", &json!({"using": "xpath", "value": path}));
    }

    pub(crate) fn click(&self, css: &str) {
        self.act(&format!("/element/{}/click", self.element(css)), &json!({}));
    }

    /// Types into an input, replacing what the browser may have filled in.
    pub(crate) fn type_into(&self, css: &str, text: &str) {
        let input = self.element(css);
        self.act(&format!("/element/{input}/clear"), &json!({}));
        self.act(&format!("/element/{input}/value"), &json!({"text": text}));
    }

    /// Runs a script in the page. If it returns a promise, waits for it.
    pub(crate) fn run(&self, script: &str) {
        self.act("/execute/sync", &json!({"script": script, "args": []}));
    }

    fn element(&self, css: &str) -> String {
        let found = self.act("/element", &json!({"using": "css selector", "value": css}));
        found[ELEMENT].as_str().expect("an element").to_owned()
    }

    fn act(&self, what: &str, parameters: &Value) -> Value {
        self.command("POST", &format!("{}{what}", self.session), parameters)
    }

    fn command(&self, method: &str, target: &str, parameters: &Value) -> Value {
        let body = if parameters.is_null() { String::new() } else { parameters.to_string() };
        let headers = "Content-Type: application/json\r\n";
        let answer = self.client.send_with(method, target, headers, body).expect(200);
        answer.json()["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Closes the browser, even if the driver no longer responds.
        let request = format!("DELETE {} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", self.session);
        let _ = self.client.try_exchange(request.as_bytes());
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
