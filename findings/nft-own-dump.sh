#!/usr/bin/env bash
# nft 1.0.6 does not read its own dump: JSON of valid rulesets is refused or comes back with parts missing.
# Needs: bash, root, Debian 12 with its security updates (apt-get update first), a kernel with nf_tables. The rules live
# in a network namespace of their own, made for each try.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get download -qq nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11=1.2.4-2 libjansson4=2.14-2 2> log \
    || { cat log; exit 1; }
for package in *.deb; do dpkg-deb -x "$package" root; done
export PATH=$work/root/usr/sbin:$PATH LD_LIBRARY_PATH=$(echo "$work"/root/usr/lib/*-linux-gnu)

cat > interface-in-set.nft <<'EOF'
table inet t {
  chain c {
    type filter hook forward priority 0
    iifname { "a*", "b" } accept
  }
}
EOF
cat > map-with-jump.nft <<'EOF'
table inet t {
  chain web {
  }
  map m {
    type inet_service : verdict
    elements = { 80 : jump web }
  }
}
EOF
cat > ingress.nft <<'EOF'
table netdev t {
  chain c {
    type filter hook ingress device "lo" priority 0
  }
}
EOF
cat > flags.nft <<'EOF'
table inet t {
  comment "what for"
  flags dormant
  set growing {
    type ipv4_addr
    comment "seen"
    flags dynamic
  }
  set ranges {
    type ipv4_addr
    flags interval
    auto-merge
  }
}
EOF

# Load a file, dump it, load the dump into an empty ruleset, compare the two listings.
cat > round.sh <<'EOF'
nft -f "$2.nft"
nft list ruleset > before
nft $1 list ruleset > dump
nft flush ruleset
if ! nft $1 -f dump 2> error; then
    echo "refused: $(head -n 1 error | sed 's/^[^E]*Error: //')"
    exit
fi
nft list ruleset > after
lost=$(diff before after | sed -n 's/^< *\t*//p' | grep . | paste -sd, | sed 's/,/, /g' || true)
echo "loaded${lost:+, without: $lost}"
EOF
for name in interface-in-set map-with-jump ingress flags; do
    printf '%-17s| %-37s | %s\n' "$name" "$(unshare --net bash round.sh '' "$name")" \
        "$(unshare --net bash round.sh --json "$name")"
done > table

echo "Version: $(nft --version), libnftables $(dpkg-deb -f libnftables1_*.deb Version), Linux $(uname -r)"
for file in interface-in-set map-with-jump ingress flags; do
    echo
    echo "$file:"
    sed 's/^/    /' "$file.nft"
done
cat <<'EOF'

Expected: each dump is loaded again as it was. nft(8) says that, by design, the output of "list ruleset" may be used
as input of nft -f, like iptables-save and iptables-restore. libnftables-json(5) says that objects of input and of
output are the same but for a few properties, that almost all of the usual syntax has its like in JSON, and it lists
"dev" of a chain.

EOF
{ printf '%-17s| %-37s | %s\n' ruleset 'nft list ruleset, nft -f' 'nft --json list ruleset, nft --json -f'; cat table; } \
    | sed 's/^/    /'
cat <<'EOF'

What happens: an interface pattern beside a name in an unnamed set is listed as ""-"", so even the plain dump is no
input; the JSON dump puts a map before the chain that it jumps to and leaves out an ingress chain's device, so it is
refused; where it is loaded, a dormant table comes back awake, sets are no longer dynamic or auto-merge, and comments
are gone.
EOF
cat > seen <<'EOF'
interface-in-set | refused: Empty string is not allowed  | refused: Empty string is not allowed
map-with-jump    | loaded                                | refused: Could not process rule: No such file or directory
ingress          | loaded                                | refused: Missing `device' in this chain definition
flags            | loaded                                | loaded, without: flags dormant, comment "what for", flags dynamic, comment "seen", auto-merge
EOF
diff seen table || { echo "CHANGED: this is not what was seen before."; exit 1; }
