#!/usr/bin/env bash
# pathspec: in a .gitignore pattern, ranges like [!0-9] match a slash; for git they never do.
# Needs: bash, git, python3 with venv. No root.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv py
echo 'pathspec==1.1.1 --hash=sha256:a00ce642f577bf7f473932318056212bc4f8bfdf53128c78bbd5af0b9b20b189' > pins
py/bin/pip install --quiet --require-hashes -r pins

git init --quiet tree
cat > patterns <<'EOF'
build[!0-9]out
build[^0-9]out
build[!0-9]*.o
build[.-0]out
build?out
build*out
EOF
paths="build/out build-out build/x.o"

cat > match.py <<'EOF'
import sys
import pathspec

spec = pathspec.GitIgnoreSpec.from_lines([sys.argv[1]])
print(*(path for path in sys.argv[2:] if spec.match_file(path)))
EOF

echo "Versions: pathspec $(py/bin/python -c 'import pathspec; print(pathspec.__version__)'), $(git --version)"
cat <<'EOF'

Expected: both say the same. gitignore(5): a slash separates folders, * and ? match anything but a slash, and
for the rest FNM_PATHNAME of fnmatch(3) holds, which says that no bracket expression matches a slash either.
pathspec's documentation says that GitIgnoreSpec replicates .gitignore behaviour.

EOF
echo "Paths: $paths"
printf '%-16s | %-16s | %s\n' pattern 'git check-ignore' 'pathspec.GitIgnoreSpec' > table
while IFS= read -r pattern; do
    echo "$pattern" > tree/.gitignore
    by_git=$(printf '%s\n' $paths | git -C tree check-ignore --no-index --stdin | xargs || true)
    by_pathspec=$(py/bin/python match.py "$pattern" $paths)
    printf '%-16s | %-16s | %s\n' "$pattern" "$by_git" "$by_pathspec"
done < patterns >> table
sed 's/^/    /' table
cat <<'EOF'

What happens: a range of pathspec that lets the slash in matches it, so a pattern for names in one folder also
ignores files of another folder below it; * and ? stop at the slash as they should.
EOF
cat > seen <<'EOF'
pattern          | git check-ignore | pathspec.GitIgnoreSpec
build[!0-9]out   | build-out        | build/out build-out
build[^0-9]out   | build-out        | build/out build-out
build[!0-9]*.o   |                  | build/x.o
build[.-0]out    |                  | build/out
build?out        | build-out        | build-out
build*out        | build-out        | build-out
EOF
diff seen table || { echo "CHANGED: this is not what was seen before."; exit 1; }
