//! Measures a store with a million sessions: its size on the disk, the time of a walk, and the time of
//! reads during a walk.
//!
//! ```text
//! cargo run --release -p session-file --example file_scale -- [--sessions N] [--in DIR]
//! ```
//!
//! The store is made in a new directory in DIR (by default the directory for temporary files) and
//! removed at the end. It takes about 5 GB for a million sessions on ext4.

#[cfg(unix)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    unix::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("the provider \"file\" does not run on this system yet");
    std::process::exit(2);
}

#[cfg(unix)]
mod unix {
    use std::error::Error;
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use futures_lite::future::block_on;
    use lexopt::{Arg, ValueExt as _};
    use session_core::provider::{Provider as _, Record, Token, Verifier};
    use session_core::{SessionId, Timestamp, value};
    use session_file::{Durability, FileConfig, FileProvider};

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const LIFE: Duration = Duration::from_secs(1800);

    pub(crate) fn main() -> Result<(), Box<dyn Error>> {
        let (mut sessions, mut parent) = (1_000_000, std::env::temp_dir().canonicalize()?);
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Arg::Long("sessions") => sessions = arguments.value()?.parse()?,
                Arg::Long("in") => parent = PathBuf::from(arguments.value()?).canonicalize()?,
                other => return Err(other.unexpected().into()),
            }
        }
        let directory = parent.join(format!("session-file-scale-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
        let outcome = measure(&directory, sessions);
        std::fs::remove_dir_all(&directory)?;
        outcome
    }

    fn measure(directory: &Path, sessions: usize) -> Result<(), Box<dyn Error>> {
        let provider = FileProvider::open(FileConfig::new(directory).with_sync(Durability::None))?;
        let empty = Sizes::of(directory)?;

        let start = Instant::now();
        let tokens = create(&provider, sessions)?;
        let time = start.elapsed();
        println!("{sessions} sessions stored in {time:.1?}, {:.1?} each", time / sessions as u32);
        let sizes = Sizes::of(directory)?;
        let each = |bytes: u64| bytes as f64 / sessions as f64;
        println!(
            "on the disk: {:.0} bytes each in files, of which {:.0} are content, and {:.0} in folders",
            each(sizes.allocated),
            each(sizes.content),
            each(sizes.folders - empty.folders),
        );

        let start = Instant::now();
        let count = block_on(provider.count(NOW))?;
        println!("counted {count} in {:.2?}", start.elapsed());

        let quiet = reads(&provider, &tokens, || thread::sleep(Duration::from_secs(2)))?;
        println!("reads with nothing else going on: {quiet}");
        let mut walk = (Duration::ZERO, 0, Duration::ZERO);
        let busy = reads(&provider, &tokens, || walk = purge(&provider))?;
        let (time, slices, longest) = walk;
        println!(
            "a full purge walk with nothing expired: {time:.2?}, in {slices} slices, {longest:.1?} the \
             longest"
        );
        println!("reads while it ran: {busy}");
        Ok(())
    }

    fn create(provider: &FileProvider, sessions: usize) -> Result<Vec<Token>, session_core::Error> {
        let limits = Default::default();
        let values = [
            ("name", value::encode("name", "ada lovelace", &limits)?),
            ("count", value::encode("count", &7u64, &limits)?),
        ];
        let values = values.into_iter().collect();
        let one = |_| {
            let id = SessionId::generate()?;
            let record = Record::new(Verifier::digest(&id, ""), NOW, NOW.saturating_add(LIFE));
            block_on(provider.create(
                &id,
                Record { values: Clone::clone(&values), ..record },
                NOW,
            ))?;
            Ok(Token::from(id))
        };
        thread::scope(|scope| {
            let halves = [sessions / 2, sessions - sessions / 2];
            let threads = halves.map(|half| scope.spawn(move || (0..half).map(one).collect()));
            let mut tokens = Vec::with_capacity(sessions);
            for thread in threads {
                let half: Result<Vec<Token>, _> = thread.join().expect("does not panic");
                tokens.extend(half?);
            }
            Ok(tokens)
        })
    }

    /// Returns the time of a walk, the number of its slices, and the time of the longest one.
    fn purge(provider: &FileProvider) -> (Duration, usize, Duration) {
        let (start, mut slices, mut longest) = (Instant::now(), 0, Duration::ZERO);
        loop {
            let slice_start = Instant::now();
            let slice = provider.purge(NOW, 1000).expect("collects");
            assert_eq!(slice.removed, 0, "nothing is expired");
            longest = longest.max(slice_start.elapsed());
            slices += 1;
            if !slice.more {
                return (start.elapsed(), slices, longest);
            }
        }
    }

    /// Reads random sessions while `meanwhile` runs, and measures the reads.
    fn reads(
        provider: &FileProvider,
        tokens: &[Token],
        meanwhile: impl FnOnce(),
    ) -> Result<String, session_core::Error> {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut times, mut at) = (Vec::new(), 0);
                while !stop.load(Ordering::Relaxed) {
                    at = (at + 611_953) % tokens.len();
                    let start = Instant::now();
                    assert!(block_on(provider.load(&tokens[at], NOW))?.is_some(), "is live");
                    times.push(start.elapsed());
                }
                Ok(times)
            });
            meanwhile();
            stop.store(true, Ordering::Relaxed);
            let mut times: Vec<Duration> = reader.join().expect("does not panic")?;
            times.sort();
            let part = |percent: f64| times[((times.len() - 1) as f64 * percent / 100.0) as usize];
            Ok(format!(
                "{} of them, median {:.1?}, p99 {:.1?}, p99.9 {:.1?}",
                times.len(),
                part(50.0),
                part(99.0),
                part(99.9),
            ))
        })
    }

    /// The sizes of a store in bytes.
    #[derive(Default)]
    struct Sizes {
        /// The sum of the files' lengths.
        content: u64,
        /// The allocated space.
        allocated: u64,
        folders: u64,
    }

    impl Sizes {
        fn of(directory: &Path) -> std::io::Result<Self> {
            // 512 bytes, whatever the file system's block size (stat(2)).
            const BLOCK: u64 = 512;
            let mut sizes = Self::default();
            for folder in std::fs::read_dir(directory)? {
                let folder = folder?;
                if !folder.file_type()?.is_dir() {
                    continue;
                }
                sizes.folders += folder.metadata()?.blocks() * BLOCK;
                for file in std::fs::read_dir(folder.path())? {
                    let metadata = file?.metadata()?;
                    sizes.content += metadata.len();
                    sizes.allocated += metadata.blocks() * BLOCK;
                }
            }
            Ok(sizes)
        }
    }
}
