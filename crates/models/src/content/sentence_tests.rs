use std::path::Path;

use serde_json::{Value, json};

use super::*;

const WORDS: [&str; 8] = ["[PAD]", "[UNK]", "rose", "water", "##water", "shea", "butter", "cream"];
const TEXTS: [&str; 4] =
    ["Rosewater, shea butter", "cream unknown cream", "nothing here", "rose water cream butter"];

/// Name, type, shape, numbers.
type Named = (&'static str, &'static str, Vec<usize>, Vec<u8>);

/// Settings, tensors, vectors of [`TEXTS`], and how far off they may be.
type Golden = (Value, Vec<Named>, [[f32; 3]; 4], f32);

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn vectors() -> Vec<f32> {
    (0..8).flat_map(|i| (0..3).map(move |j| ((7 * i + 3 * j) % 11) as f32 / 8.0 - 0.5)).collect()
}

fn embeddings(rows: usize) -> Named {
    ("embeddings", "F32", vec![rows, 3], bytes(&vectors()[..rows * 3]))
}

fn weights() -> Named {
    ("weights", "F32", vec![8], bytes(&(0..8).map(|i| 0.25 + i as f32 / 8.0).collect::<Vec<_>>()))
}

fn mapping(last: i64) -> Named {
    let places = [0i64, 0, 1, 2, 2, 3, 4, last];
    ("mapping", "I64", vec![8], places.iter().flat_map(|x| x.to_le_bytes()).collect())
}

fn tokenizer() -> Value {
    let vocab: serde_json::Map<String, Value> =
        WORDS.iter().zip(0..).map(|(t, id)| ((*t).to_owned(), json!(id))).collect();
    json!({
        "normalizer": { "type": "BertNormalizer", "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab },
    })
}

/// A file as the `safetensors` library writes it: the head is filled up with blanks to a multiple of eight.
fn packed(tensors: &[Named]) -> Vec<u8> {
    let (mut head, mut data) = (json!({ "__metadata__": { "format": "np" } }), Vec::new());
    for (name, dtype, shape, numbers) in tensors {
        let from = data.len();
        data.extend_from_slice(numbers);
        head[*name] = json!({ "dtype": dtype, "shape": shape, "data_offsets": [from, data.len()] });
    }
    let mut head = head.to_string().into_bytes();
    head.resize(head.len().next_multiple_of(8), b' ');
    [&(head.len() as u64).to_le_bytes()[..], &head, &data].concat()
}

fn write(folder: &Path, config: &Value, tensors: &[Named]) {
    std::fs::write(folder.join("model.safetensors"), packed(tensors)).unwrap();
    std::fs::write(folder.join("tokenizer.json"), tokenizer().to_string()).unwrap();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

fn open(config: Value, tensors: &[Named]) -> Result<SentenceEncoder, Error> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config, tensors);
    SentenceEncoder::open(folder.path())
}

fn encoded(encoder: &SentenceEncoder) -> Vec<Vec<f32>> {
    let one = |text: &&str| {
        let mut out = vec![9.0; encoder.dim()];
        encoder.encode(text, &mut out);
        out
    };
    TEXTS.iter().map(one).collect()
}

// model2vec 0.10.0 on folders with the same three files; a twin of three lines of NumPy agrees:
// words = ["[PAD]", "[UNK]", "rose", "water", "##water", "shea", "butter", "cream"]
// vectors = np.array([[(7 * i + 3 * j) % 11 / 8 - 0.5 for j in range(3)] for i in range(8)], dtype=np.float32)
// weights = np.array([0.25 + i / 8 for i in range(8)], dtype=np.float32)
// mapping = np.array([0, 0, 1, 2, 2, 3, 4, 4], dtype=np.int64)
// for tensors, config in [
//     ({"embeddings": vectors}, {"normalize": False}),
//     ({"embeddings": vectors}, {"normalize": True, "max_length": 3}),
//     ({"embeddings": vectors.astype(np.float16)}, {"normalize": True}),
//     ({"embeddings": vectors[:5], "weights": weights, "mapping": mapping}, {"normalize": False})]:
//     save_file(tensors, d / "model.safetensors"); (d / "config.json").write_text(json.dumps(config))
//     print([[round(float(x), 6) for x in v] for v in StaticModel.from_pretrained(d).encode(texts)])
#[test]
fn vectors_are_those_of_model2vec() {
    let f16: Vec<u8> = vectors().iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect();
    let golden: [Golden; 4] = [
        (
            json!({ "normalize": false }),
            vec![embeddings(8)],
            [[0.125, 0.15625, 0.1875], [0.125, 0.5, -0.5], [0.0; 3], [0.34375, 0.03125, 0.0625]],
            1e-6,
        ),
        (
            json!({ "normalize": true, "max_length": 3 }),
            vec![embeddings(8)],
            [
                [0.136083, 0.952579, 0.272166],
                [0.174078, 0.696311, -0.696311],
                [0.0; 3],
                [0.640184, 0.0, 0.768221],
            ],
            1e-6,
        ),
        (
            json!({ "normalize": true }),
            vec![("embeddings", "F16", vec![8, 3], f16)],
            [
                [0.455811, 0.569824, 0.683594],
                [0.174072, 0.696289, -0.696289],
                [0.0; 3],
                [0.97998, 0.089111, 0.178223],
            ],
            // model2vec rounds its result to half precision.
            5e-4,
        ),
        (
            json!({ "normalize": false }),
            vec![embeddings(5), weights(), mapping(4)],
            [
                [0.25, 0.242188, 0.019531],
                [0.28125, 0.703125, -0.421875],
                [0.0; 3],
                [0.160156, 0.464844, -0.132812],
            ],
            1e-6,
        ),
    ];
    for (config, tensors, want, off) in golden {
        let got = encoded(&open(config.clone(), &tensors).unwrap());
        for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
            assert!((got - want).abs() <= off, "{config}: {got} for {want}");
        }
    }
}

#[test]
fn what_stands_around_a_text_changes_no_bit_of_its_vector() {
    let encoder = open(json!({ "normalize": true }), &[embeddings(8)]).unwrap();
    let vector = |text: &str| {
        let mut out = vec![0.0; 3];
        encoder.encode(text, &mut out);
        out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    let alone = vector("shea butter cream");
    assert_eq!(vector(&format!("  shea  butter\tcream{}", " ".repeat(300))), alone, "blanks are no tokens");
    assert_eq!(vector("shea butter cream zzz"), alone, "unknown words do not count");
    assert_ne!(vector("shea butter cream rose"), alone);
}

#[test]
fn a_text_is_cut_at_the_greatest_length() {
    let of = |config: Value, text: &str| {
        let mut out = vec![0.0; 3];
        open(config, &[embeddings(8)]).unwrap().encode(text, &mut out);
        out
    };
    let long = format!("{}rose", "shea ".repeat(600));
    assert_eq!(of(json!({}), &long), of(json!({}), "shea"), "512 tokens where the file does not say");
    assert_ne!(of(json!({ "max_length": null }), &long), of(json!({}), "shea"));
    // The median token has 5 characters: of a text no more than 5 · 2 are looked at.
    let two = json!({ "max_length": 2 });
    assert_eq!(of(two.clone(), "            rose"), [0.0; 3]);
    assert_eq!(of(two, "shea rose cream"), of(json!({}), "shea rose"));
}

#[test]
fn what_does_not_fit_is_named() {
    let fault = |config: Value, tensors: &[Named]| open(config, tensors).unwrap_err().to_string();
    let plain = json!({});
    let says = |message: String, parts: &[&str]| {
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };
    says(fault(plain.clone(), &[weights()]), &["model.safetensors", "`embeddings`", "weights"]);
    says(fault(plain.clone(), &[embeddings(5)]), &["5 rows for 8 tokens", "mapping"]);
    says(fault(plain.clone(), &[embeddings(5), mapping(5)]), &["`mapping`", "0..5"]);
    says(fault(plain.clone(), &[embeddings(5), mapping(-1)]), &["`mapping`", "0..5"]);
    let short = ("weights", "F32", vec![2], bytes(&[1.0, 2.0]));
    says(fault(plain.clone(), &[embeddings(8), short]), &["`weights`", "[2]", "8"]);
    let whole = ("embeddings", "I64", vec![8, 3], vec![0; 192]);
    says(fault(plain.clone(), &[whole]), &["`embeddings`", "I64"]);
    let flat = ("embeddings", "F32", vec![24], bytes(&vectors()));
    says(fault(plain.clone(), &[flat]), &["`embeddings`", "[24]"]);
    let bits = ("embeddings", "F8_E4M3", vec![8, 3], vec![0; 24]);
    says(fault(plain.clone(), &[bits]), &["`embeddings`", "F8_E4M3"]);
    let cut = ("embeddings", "F32", vec![8, 3], bytes(&vectors()[1..]));
    says(fault(plain.clone(), &[cut]), &["`embeddings`", "[8, 3]", "does not fit"]);
    let huge = ("embeddings", "F32", vec![usize::MAX, usize::MAX], bytes(&vectors()));
    says(fault(plain.clone(), &[huge]), &["`embeddings`", "does not fit"]);
    let wild = ("embeddings", "F32", vec![8, 3], bytes(&[f32::NAN; 24]));
    says(fault(plain.clone(), &[wild]), &["`embeddings`", "finite"]);
    says(fault(json!({ "normalize": 1 }), &[embeddings(8)]), &["config.json", "`normalize`"]);
    says(fault(json!({ "max_length": -3 }), &[embeddings(8)]), &["config.json", "`max_length`"]);
    says(fault(json!([]), &[embeddings(8)]), &["config.json"]);
}

#[test]
fn missing_and_cut_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let none = SentenceEncoder::open(&folder.path().join("none")).unwrap_err().to_string();
    assert!(none.contains("no such folder") && none.contains("tokenizer.json"), "{none}");
    write(folder.path(), &json!({}), &[embeddings(8)]);
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for end in (0..whole.len()).step_by(7) {
        std::fs::write(&path, &whole[..end]).unwrap();
        let error = SentenceEncoder::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("model.safetensors"), "{end}: {error}");
    }
    let mut wild = whole.clone();
    wild[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&path, &wild).unwrap();
    assert!(SentenceEncoder::open(folder.path()).is_err());
    std::fs::write(&path, &whole).unwrap();
    for file in ["tokenizer.json", "config.json"] {
        let kept = std::fs::read(folder.path().join(file)).unwrap();
        std::fs::write(folder.path().join(file), "{").unwrap();
        let error = SentenceEncoder::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(file), "{error}");
        std::fs::remove_file(folder.path().join(file)).unwrap();
        let error = SentenceEncoder::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains("no such file"), "{error}");
        std::fs::write(folder.path().join(file), kept).unwrap();
    }
    assert!(SentenceEncoder::open(folder.path()).is_ok());
}
