# `just check` is CI.
check:
    .ci/run

# The whole loop on a synthetic world, then a server.
quickstart:
    cargo run --release -- quickstart

# Unit and integration tests.
test:
    cargo test --workspace --locked

fmt:
    cargo fmt --all

lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# The book, if mdbook is installed.
book:
    mdbook build docs
