//! What a browser makes of a URL, told by the `url` crate, which implements the same standard
//! (WHATWG URL).

use session_core::transport::Transport as _;
use session_core::transport::{UrlOptions, UrlTransport};
use url::Url;

/// A secret that nothing else in a test looks like.
pub(crate) const ID: &str = "SeCrEt";

/// An application at one place, and its transport.
pub(crate) struct Site {
    pub(crate) transport: UrlTransport,
    /// The page that links are on.
    pub(crate) page: Url,
    base: &'static str,
}

impl Site {
    /// A page of a site, with that site configured as the origin or not.
    pub(crate) fn new(page: &str, with_origin: bool, base: &'static str) -> Self {
        let page = Url::parse(page).expect("is a URL");
        let mut options = UrlOptions::default();
        options.origin = with_origin.then(|| page.origin().ascii_serialization());
        options.base = base.into();
        let transport = UrlTransport::new(options).expect("is valid");
        Self { transport, page, base }
    }

    /// The page's path and query, as a request has them.
    pub(crate) fn target(&self) -> &str {
        &self.page[url::Position::BeforePath..url::Position::AfterQuery]
    }

    /// Where a browser goes for a reference on the page.
    pub(crate) fn follow(&self, reference: &str) -> Option<Url> {
        self.page.join(reference).ok()
    }

    /// Whether an id may go there.
    pub(crate) fn is_own(&self, url: &Url) -> bool {
        let base = self.base.trim_end_matches('/');
        let below = url.path().strip_prefix(base);
        url.origin() == self.page.origin()
            && url.username().is_empty()
            && url.password().is_none()
            && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    pub(crate) fn encode(&self, reference: &str) -> Option<String> {
        self.transport.encode_url(reference, self.target(), ID)
    }

    /// Puts the id into a reference; where it is put, checks that a browser takes it to the same
    /// place of the application and nowhere else. Answers whether it was put there.
    #[track_caller]
    pub(crate) fn check(&self, reference: &str) -> bool {
        let Some(encoded) = self.encode(reference) else { return false };
        let told = format!("{reference:?} became {encoded:?} on {}", self.page);
        let before = self.follow(reference).expect(&told);
        let after = self.follow(&encoded).expect(&told);
        assert!(self.is_own(&after), "an id goes elsewhere: {told}");
        assert_eq!(before.path(), after.path(), "{told}");
        assert_eq!(before.fragment(), after.fragment(), "{told}");
        let arguments = |url: &Url| -> Vec<String> {
            let query = url.query().unwrap_or_default().split('&');
            query.filter(|argument| !argument.is_empty()).map(str::to_owned).collect()
        };
        let mut wanted = arguments(&before);
        wanted.retain(|argument| !argument.starts_with("sid="));
        wanted.push(format!("sid={ID}"));
        assert_eq!(arguments(&after), wanted, "{told}");
        true
    }
}
