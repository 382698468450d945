# A thin cover over CMake: `make`, `make run`, `make test`, `make bench`.
# Everything can be had from Debian 12; `make deps` fetches what is missing.

BUILD ?= build
PREFIX ?= /usr/local
MAKEFLAGS += --no-print-directory
JOBS ?= $(shell nproc)
# Tests wait for servers and for time more than they compute.
TEST_JOBS ?= $(shell expr 3 \* $(JOBS))

BUILD_PACKAGES = gcc make cmake pkg-config libc6-dev libevent-dev libcurl4-openssl-dev \
	libcjson-dev libyaml-dev libhiredis-dev libc-ares-dev libidn2-dev liblua5.4-dev libcrypt-dev
TEST_PACKAGES = libcmocka-dev python3 clang clang-format clang-tidy libclang-rt-14-dev openssl curl \
	postfix dovecot-core dovecot-imapd dovecot-lmtpd dovecot-sieve dovecot-auth-lua \
	lua5.4 lua-socket lua-cjson nginx-light redis-server knot groff-base strace procps
BENCH_PACKAGES = libcmocka-dev wrk nginx-light redis-server redis-tools knot dovecot-core strace python3

.PHONY: all deps test-deps bench-deps run test quick-test asan-test tsan-test lint format bench \
	install uninstall clean

all: $(BUILD)/mapmux

$(BUILD)/mapmux: deps FORCE
	@cmake -S . -B $(BUILD) -DBUILD_TESTING=OFF >/dev/null
	@cmake --build $(BUILD) -j $(JOBS) --target mapmux

FORCE:

deps:
	@conf/debian-packages $(BUILD_PACKAGES)

test-deps:
	@conf/debian-packages $(BUILD_PACKAGES) $(TEST_PACKAGES)

bench-deps:
	@conf/debian-packages $(BUILD_PACKAGES) $(BENCH_PACKAGES)

run: all
	@conf/demo.sh $(BUILD)/mapmux

# The whole suite three times: as shipped (gcc), under ASan and UBSan (clang), and what uses threads
# under TSan.
test: quick-test asan-test tsan-test

quick-test: test-deps
	cmake -S . -B $(BUILD) -DBUILD_TESTING=ON >/dev/null
	cmake --build $(BUILD) -j $(JOBS)
	ctest --test-dir $(BUILD) --output-on-failure -j $(TEST_JOBS)

asan-test: test-deps
	CC=clang cmake -S . -B build-asan -DBUILD_TESTING=ON -DMAPMUX_ASAN=ON >/dev/null
	cmake --build build-asan -j $(JOBS)
	ctest --test-dir build-asan --output-on-failure -j $(TEST_JOBS) -LE 'lint|bench'

tsan-test: test-deps
	CC=clang cmake -S . -B build-tsan -DBUILD_TESTING=ON -DMAPMUX_TSAN=ON >/dev/null
	cmake --build build-tsan -j $(JOBS)
	ctest --test-dir build-tsan --output-on-failure -j $(TEST_JOBS) -L threads

lint: test-deps
	cmake -S . -B $(BUILD) -DBUILD_TESTING=ON >/dev/null
	cmake --build $(BUILD) -j $(JOBS)
	ctest --test-dir $(BUILD) --output-on-failure -L lint

format: test-deps
	clang-format -i $$(git ls-files '*.c' '*.h')

bench: bench-deps
	cmake -S . -B $(BUILD) -DBUILD_TESTING=ON >/dev/null
	cmake --build $(BUILD) -j $(JOBS) --target mapmux bench_floor bench_load bench_curlloop
	python3 tests/bench/run.py --mapmux $(BUILD)/mapmux --tools $(BUILD)/tests/bench

install: all
	cmake --install $(BUILD) --prefix $(PREFIX)

uninstall:
	sed 's|^|$(DESTDIR)|' $(BUILD)/install_manifest.txt | xargs -d '\n' rm -f

clean:
	rm -rf build build-asan build-tsan
