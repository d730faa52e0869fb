//! Commands and scripts, as they are sent to the server.

use once_cell::sync::Lazy;
use redis::Cmd;

/// A Lua script and its hash.
pub(crate) struct Script {
    code: &'static str,
    hash: String,
}

macro_rules! scripts {
    ($($name:ident $file:literal)*) => {
        $(pub(crate) static $name: Lazy<Script> = Lazy::new(|| {
            Script::new(concat!(include_str!("lua/common.lua"), include_str!($file)))
        });)*

        /// All scripts. A new connection loads each into the server.
        pub(crate) static ALL: &[&Lazy<Script>] = &[$(&$name),*];
    };
}

scripts! {
    CREATE "lua/create.lua"
    SAVE "lua/save.lua"
    TOUCH "lua/touch.lua"
    DESTROY "lua/destroy.lua"
    ENTER "lua/enter.lua"
}

impl Script {
    fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }

    /// Returns the command that loads the script into the server.
    pub(crate) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(self.code);
        command
    }
}

/// A command or script with its keys and arguments. All data are arguments, so none is ever run as code.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) command: Command,
    /// The slot of the first key decides the server that it is sent to.
    pub(crate) keys: &'a [&'a [u8]],
    pub(crate) arguments: &'a [&'a [u8]],
}

#[derive(Clone, Copy)]
pub(crate) enum Command {
    Named(&'static str),
    Script(&'static Lazy<Script>),
}

impl Request<'_> {
    /// Encodes the command; with the whole script instead of its hash, if the server doesn't know the hash.
    pub(crate) fn encode(&self, is_whole: bool) -> Cmd {
        let size = |parts: &[&[u8]]| parts.iter().map(|part| part.len()).sum::<usize>();
        let length = size(self.keys) + size(self.arguments) + 64;
        let mut command = Cmd::with_capacity(self.keys.len() + self.arguments.len() + 3, length);
        match self.command {
            Command::Named(name) => command.arg(name),
            Command::Script(script) if is_whole => {
                command.arg("EVAL").arg(script.code).arg(self.keys.len())
            }
            Command::Script(script) => {
                command.arg("EVALSHA").arg(&script.hash).arg(self.keys.len())
            }
        };
        for part in self.keys.iter().chain(self.arguments) {
            command.arg(*part);
        }
        command
    }
}
