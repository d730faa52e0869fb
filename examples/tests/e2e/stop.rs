//! Stopping the demo.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;

use crate::demo::Demo;

#[test]
fn a_signal_lets_what_is_in_flight_finish() {
    for signal in ["TERM", "INT"] {
        let demo = Demo::start_logging("debug", &[]);
        let mut visitor = demo.visitor();
        visitor.get("/count");
        thread::scope(|scope| {
            let slow = scope.spawn(|| visitor.post("/slow/draft?ms=2000", "1"));
            demo.wait_for("loaded, waiting");
            demo.signal(signal);
            demo.wait_for("stopping");
            assert!(TcpStream::connect(demo.address).is_err(), "it accepts no more");
            slow.join().expect("is answered").expect(204);
        });
        let (status, printed) = demo.wait();
        assert_eq!(status.code(), Some(0), "{printed}");
    }
}

/// Browsers open connections in advance and keep them open.
#[test]
fn connections_without_a_request_do_not_hold_it_up() {
    let demo = Demo::start(&[]);
    let silent = TcpStream::connect(demo.address).expect("the demo accepts");
    let mut kept = TcpStream::connect(demo.address).expect("the demo accepts");
    kept.write_all(b"GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n").expect("is sent");
    demo.visitor().get("/whoami");
    demo.signal("TERM");
    let (status, printed) = demo.wait();
    assert_eq!(status.code(), Some(0), "{printed}");
    assert!(!printed.contains("gave up"), "{printed}");
    drop(silent);
}
