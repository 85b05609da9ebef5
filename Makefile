# What a developer does here. Everything else is plain cargo.
.PHONY: run test lint bench

run: ; cargo run --release -- $(ARGS)

test: ; scripts/setup-tests && cargo test --workspace

lint: ; cargo fmt --check && cargo clippy --workspace --all-targets -- -D warnings && \
	if command -v cargo-deny; then cargo deny check; else echo 'cargo-deny is not installed: dependencies go unchecked' >&2; fi

# ARGS go to the comparison: `make bench ARGS='cpu --rounds 9'`; `target/release/compare --help` lists them.
bench: ; cargo build --release --workspace && \
	reference=$$(scripts/reference-memcached target/reference) && target/release/compare --memcached "$$reference" $(ARGS)
