//! Links and redirects.

use proptest::prelude::*;

use crate::judge::Site;

/// What becomes of a URL on the page `https://example.com/app/dir/page?q=1` of an application at
/// `https://example.com/app`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is the application's own, and gets the id.
    Own,
    /// It is not, and gets none.
    Other,
    /// A browser would go to the application, but the spelling is nobody's who means it: no id.
    Odd,
}
use Fate::{Odd, Other, Own};

#[rustfmt::skip]
const URLS: &[(Fate, &[&str])] = &[
    // Relative references, with and without queries and fragments.
    (Own, &["", "?", "?a", "?a=1&b=2", "?sid=OLD", "?a&sid=OLD&b", "?sid=OLD&sid=OLDER#f"]),
    (Own, &["x", "x/", "x/y", "./x", ".", "./", "..", "../", "../x", "../dir/../x", "x?y#z",
        "x#"]),
    (Own, &["./x:y", "x/y:z", "x?y:z", "x?//evil/", "x?https://evil/", "x#//evil/"]),
    (Own, &["x?\\\\evil", "x#\\\\evil", "?u=https://u@evil/", "x;sid=1", "x,y", "x@evil",
        "@evil", "x%2f..%2f"]),
    (Own, &["%2f%2fevil/", "%5c%5cevil", ".//evil/", "..//evil/", "...", ".../x", "..x", "x..",
        "*", "~x", "$"]),
    (Own, &[" x", "x ", "\tx\n", "a b", "x\ny", "\u{b}x", "\u{1}x\u{1}", "ä", "x?ä", "x#ä", "日本",
        "%C3%A4", "%zz"]),
    // Absolute paths.
    (Own, &["/app", "/app/", "/app?x", "/app#x", "/app/x", "/app/./x", "/app/x/../y", "/app//x",
        "/app///evil/"]),
    (Own, &["/x/../app", "/./app", "/../app", "/%2e%2e/app/x", "/app/%2e/x", "/app/x/%2E%2e/y",
        "/app/x:80", "/app/@"]),
    (Own, &["/app/http://evil/", "/app/..%2fx", "/app/%00", "/app/x?sid", "/app/x?SID=1",
        "/app/x?xsid=1&sid[]=2"]),
    (Own, &["/ap\tp/x", " /app", "/app\r\n/x"]),
    // Absolute URLs.
    (Own, &["https://example.com/app", "https://example.com/app/x?y#z",
        "HTTPS://EXAMPLE.COM/app/"]),
    (Own, &["https://example.com:443/app", "https://example.com:/app",
        "https://example.com:00443/app"]),
    (Own, &["https://example.com/app/../app/x", "https://example.com/x/..//../app",
        "ht\ntps://exam\tple.com/app"]),
    // Out of the application, on the same site.
    (Other, &["/", "/?x", "/x", "/application", "/App", "/app%2f", "/app;x", "/app/..",
        "/app/../", "/app/../x"]),
    (Other, &["../../x", "../..", "../../application", "../../../app/../x", "/app/%2e%2e/x",
        "/app/x/.%2e/%2e./y"]),
    (Other, &["/%61pp", "/x?/app/", "/x#/app/", "/.app", "/./x"]),
    (Other, &["https://example.com", "https://example.com/", "https://example.com/x",
        "https://example.com?/app/"]),
    (Other, &["https://example.com#/app/", "https://example.com/application",
        "https://example.com/app/../x"]),
    // Other sites.
    (Other, &["//evil/", "//evil/app/", "//evil", "//evil:443/app", "//u@evil/app",
        "///evil/app", "////evil/app"]),
    (Other, &["https://evil/app", "http://evil/app", "https:///evil/app", "https:////evil/app"]),
    (Other, &["\\\\evil/app", "/\\evil/app", "\\/evil/app", "/\\/evil/app", "\\\\\\evil/app",
        "//\\evil/app"]),
    (Other, &["\t//evil/app", "/\t/evil/app", "/\n/evil/app", "\r\n//evil/app", "/\r\\evil/app",
        "\u{0}//evil/app"]),
    (Other, &[" //evil/app", "\u{1f}//evil/app", "\u{c}//evil/app", "/\t\\\n/evil/app",
        "\\\t\\evil/app"]),
    (Other, &["ht\ntps://evil/app", "https\t://evil/app", "https:\n//evil/app",
        "https:/\t/evil/app", "h\tttps:\\\\evil/app"]),
    (Other, &["https:\\\\evil/app", "https:/\\evil/app", "https:\\/evil/app",
        "HTTPS:\\\\evil/app"]),
    (Other, &["https://example.com.evil/app", "https://example.com@evil/app",
        "https://example.com:443@evil/app"]),
    (Other, &["https://example.com%2eevil/app", "https://example.comevil/app",
        "https://xexample.com/app"]),
    (Other, &["https://evil/https://example.com/app", "https://evil?https://example.com/app",
        "https://evil#/app"]),
    (Other, &["https://evil\\@example.com/app", "https://evil\\example.com/app",
        "https://example.com\\@evil/app"]),
    (Other, &["https://evil/\t@example.com/app", "https://evil\t.com/app",
        "https://example.com\t.evil/app"]),
    // Other schemes and ports, and users.
    (Other, &["http://example.com/app", "https://example.com:444/app",
        "https://example.com:80/app", "ftp://example.com/app"]),
    (Other, &["ws://example.com/app", "wss://example.com/app", "https://u@example.com/app",
        "https://u:p@example.com/app"]),
    (Other, &["https://:p@example.com/app", "//u@example.com/app", "javascript:alert(1)",
        "java\nscript:x", " javascript:x"]),
    (Other, &["JAVASCRIPT:x", "javascript://example.com/app", "data:text/html,x", "mailto:a@b",
        "tel:1", "blob:https://example.com/app"]),
    (Other, &["about:blank", "view-source:https://example.com/app", "foo:bar", "x-y+z.1:/app",
        "file:///app", "http:x", "http:/app"]),
    (Other, &["https://example.com./app", "https://example。com.evil/app",
        "https://127.0.0.1/app", "https://[::1]/app"]),
    // No URLs at all.
    (Other, &["https://", "https://exa mple.com/app", "https://example.com:x/app",
        "https://example.com:99999/app", "https://[/app"]),
    // The application's own, in spellings to be careful with.
    (Odd, &["//example.com/app", "\\\\example.com/app", "https:/app", "https:x", "https:?x",
        "https:evil.com/../../x"]),
    (Odd, &["/\\example.com/app", "https:\\\\example.com\\app", "https:///example.com/app",
        "https://example.com\\app"]),
    (Odd, &["https://@example.com/app", "https://:@example.com/app", "https://ex%61mple.com/app",
        "https://example。com/app"]),
    (Odd, &["https://EXAMPLE。COM/app", "x\\y", "\\app\\x", "/app\\x", "x\u{1}y", "x\u{7f}",
        "/app/\u{0}x", "#", "#x", "1:2"]),
    (Odd, &["/app\\..\\app", "https:..", "https:/./app", "-:x", "x y:z",
        "https://exam\u{ad}ple.com/app"]),
];

#[test]
fn by_the_verdict_of_a_browsers_parser_no_id_leaves_the_application() {
    let site = Site::new("https://example.com/app/dir/page?q=1", true, "/app");
    let (mut urls, mut encoded, mut wrong) = (0, 0, Vec::new());
    for (fate, list) in URLS {
        for url in *list {
            let is_own = site.follow(url).is_some_and(|url| site.is_own(&url));
            let is_encoded = site.check(url);
            if is_own != (*fate != Other) || is_encoded != (*fate == Own) {
                wrong.push(format!("{url:?} is {fate:?}, own: {is_own}, encoded: {is_encoded}"));
            }
            urls += 1;
            encoded += usize::from(*fate == Own);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(urls >= 150 && encoded >= 50, "{urls} URLs, {encoded} with ids");
}

/// The same URLs on other pages, where nothing is said of the origin: what is the application's own
/// must be so whatever its scheme and host are.
#[test]
fn without_an_origin_only_references_without_a_host_get_it() {
    let mut encoded = 0;
    for page in [
        "http://127.0.0.1:8080/",
        "https://example.com/app/",
        "http://evil/x",
        "https://[::1]/app/y",
    ] {
        for base in ["/", "/app"] {
            let site = Site::new(page, false, base);
            for url in URLS.iter().flat_map(|(_, urls)| *urls) {
                encoded += usize::from(site.check(url));
            }
        }
    }
    assert!(encoded > 100, "{encoded}");
}

/// Pieces that URL parsers disagree about.
fn reference() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => proptest::sample::select(vec![
            "/", "//", "\\", "..", ".", "%2e", "%2E%2e", "?", "#", ":", "@", "&", "=", "sid=", "sid=OLD&",
            "https:", "http:", "https://", "HTTP://", "example.com", "EXAMPLE.com", "evil", ":443", ":80",
            "app", "/app", "/app/", "\t", "\n", "\r", " ", "\u{0}", "\u{1f}", "\u{7f}", "%2f", "%5c", ";",
            "javascript:", "data:", "[::1]", "。", "ä", "%", "*", "\u{ad}", "\u{200b}", "\u{fffd}", "",
        ]).prop_map(str::to_owned),
        1 => "[ -~]{0,3}",
        1 => any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn no_reference_takes_an_id_elsewhere(
        reference in reference(),
        page in proptest::sample::select(vec![
            "https://example.com/app/dir/page?q=1", "https://example.com/", "http://example.com/app",
            "https://example.com//app/x", "https://example.com/app/%2e%2e/x?sid=OLD",
        ]),
        with_origin: bool,
        base in proptest::sample::select(vec!["/", "/app", "/app/dir/"]),
    ) {
        Site::new(page, with_origin, base).check(&reference);
    }
}
