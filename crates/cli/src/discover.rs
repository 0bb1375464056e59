//! A dataset configuration for a folder: its own `dataset.toml`, or a guess from RecBole's file names.
//!
//! RecBole's atomic files say what their columns are (`age:token`, `price:float`, `genres:token_seq`), which is
//! enough to map them: a log of interactions with user and item attributes.

use millstream_data::config::DatasetConfig;
use millstream_data::logs::{self, FileFormat, LogFormat};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::Failure;

/// The configuration of the dataset in `folder`; paths in it are relative to `folder`.
pub fn dataset(folder: &Path) -> Result<DatasetConfig, Failure> {
    if !folder.is_dir() {
        return Err(format!("{}: there is no such folder", folder.display()).into());
    }
    let own = folder.join("dataset.toml");
    if own.exists() {
        return Ok(DatasetConfig::read(&own)?);
    }
    let Some(interactions) = atomic(folder, "inter")? else {
        return Err(format!(
            "{}: holds neither dataset.toml nor a RecBole file (*.inter); write a dataset.toml as docs/src/own-data.md shows",
            folder.display()
        )
        .into());
    };
    let text = recbole(folder, &interactions)?;
    Ok(DatasetConfig::parse(&text, &format!("guessed from {}", interactions.display()))?)
}

/// The file `*.ending`, plain or compressed.
fn atomic(folder: &Path, ending: &str) -> Result<Option<PathBuf>, Failure> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(|e| format!("{}: {e}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            ["", ".gz", ".zst"].iter().any(|zip| name.ends_with(&format!(".{ending}{zip}")))
        })
        .collect();
    found.sort();
    Ok(found.into_iter().next())
}

/// Column names and RecBole types of a file's header.
fn header(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let format = LogFormat {
        format: Some(FileFormat::Text),
        delimiter: Some("\t".into()),
        header: Some(true),
        columns: None,
        encoding: None,
    };
    let reader = logs::open(path, &format)?;
    let column = |name: &String| {
        let (name, kind) = name.split_once(':').unwrap_or((name, "token"));
        (name.to_owned(), kind.to_owned())
    };
    Ok(reader.columns().iter().map(column).collect())
}

fn recbole(folder: &Path, interactions: &Path) -> Result<String, Failure> {
    let columns = header(interactions)?;
    let has = |wanted: &str| columns.iter().any(|(name, _)| name == wanted);
    for needed in ["user_id", "item_id", "timestamp"] {
        if !has(needed) {
            return Err(format!("{}: has no column `{needed}`", interactions.display()).into());
        }
    }
    // Uniform negatives: the ranker's logit is then log p(item | user) up to a constant.
    let mut toml =
        String::from("[examples]\nnegatives = 10\nnegative_power = 0.0\n[dataset]\nkind = \"log\"\n");
    let file = |path: &Path| path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let value = if has("rating") { "value = \"rating\"\n" } else { "" };
    // Writing to a String cannot fail.
    let _ = write!(
        toml,
        "[dataset.events]\nfiles = [{:?}]\nuser = \"user_id\"\nitem = \"item_id\"\n{value}\
         time = {{ column = \"timestamp\", unit = \"s\" }}\n",
        file(interactions)
    );
    let (mut features, mut matched) = (String::new(), Vec::new());
    for (side, ending, id) in [("user", "user", "user_id"), ("item", "item", "item_id")] {
        feature(&mut features, (id, id), side, "token");
        let Some(path) = atomic(folder, ending)? else { continue };
        let _ = write!(toml, "[dataset.{side}s]\nfiles = [{:?}]\nid = {id:?}\n", file(&path));
        for (name, kind) in header(&path)? {
            if name != id
                && feature(&mut features, (&format!("{side}_{name}"), &name), side, &kind)
                && side == "item"
            {
                matched.push(format!("{side}_{name}"));
            }
        }
    }
    features.push_str(
        "[[feature]]\nname = \"history\"\nkind = \"sequence\"\nmax_len = 50\nelements = [\"item_id\"]\ngap = true\n",
    );
    for item in matched {
        let _ =
            write!(features, "[[feature]]\nname = \"{item}_match\"\nkind = \"match\"\nelement = {item:?}\n");
    }
    Ok(toml + &features)
}

/// One `[[feature]]` for a column of this RecBole type; false for a type that is left out.
fn feature(out: &mut String, (name, column): (&str, &str), side: &str, kind: &str) -> bool {
    let kind = match kind {
        "float" => "kind = \"numeric\"\ntransform = \"quantiles\"",
        "token_seq" => "kind = \"text\"",
        "float_seq" => return false,
        _ => "kind = \"categorical\"",
    };
    let _ = write!(out, "[[feature]]\nname = {name:?}\ncolumn = {column:?}\nside = {side:?}\n{kind}\n");
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recbole_files_are_mapped_by_their_headers() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write(
            "tiny.inter",
            "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu\ti\t4\t881250949\n",
        );
        write("tiny.item", "item_id:token\ttitle:token_seq\tprice:float\ni\tA Tale\t3.5\n");
        let config = dataset(dir.path()).unwrap();
        let names: Vec<&str> = config.schema.features.iter().map(|f| f.name.as_str()).collect();
        let expected = [
            "user_id",
            "item_id",
            "item_title",
            "item_price",
            "history",
            "item_title_match",
            "item_price_match",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_folder_without_anything_known_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(dataset(dir.path()).unwrap_err().to_string().contains("dataset.toml"));
    }
}
