//! Configurations that come with the binary.

/// How the files of a synthetic world are read, for files of this extension (`csv`, `csv.gz`).
pub fn world(extension: &str) -> String {
    include_str!("../presets/world.toml").replace("csv.gz", extension)
}

/// What `quickstart` trains.
pub const QUICKSTART: &str = include_str!("../presets/quickstart.toml");
