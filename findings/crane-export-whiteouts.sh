#!/usr/bin/env bash
# crane export: a file made anew in the layer that removes the old one is lost, and hard links point at the wrong file.
# Needs: bash, go 1.25 or newer, python3, tar. No root. Compiles for a minute or two.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

export GOPATH=$work/go GOCACHE=$work/cache GOBIN=$work/bin GOFLAGS="-modcacherw -p=2" CGO_ENABLED=0
go install github.com/google/go-containerregistry/cmd/crane@v0.22.1 2> log || { cat log; exit 1; }
go install github.com/opencontainers/umoci/cmd/umoci@v0.5.0 2> log || { cat log; exit 1; }

# Each image twice, of the same layers: an OCI layout for umoci, the form of "docker save" for crane.
cat > images.py <<'EOF'
import hashlib, io, json, os, tarfile

def put(archive, name, data=b"", kind=tarfile.REGTYPE, link=""):
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, len(data), link
    member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    archive.addfile(member, io.BytesIO(data))

def layer(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            if name.endswith("/"):
                put(archive, name, kind=tarfile.DIRTYPE)
            elif content.startswith("link to "):
                put(archive, name, kind=tarfile.LNKTYPE, link=content.removeprefix("link to "))
            else:
                put(archive, name, content.encode())
    return buffer.getvalue()

def image(name, *layers):
    blobs = f"{name}/blobs/sha256"
    os.makedirs(blobs)
    def blob(data, kind, **more):
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{blobs}/{digest}", "wb") as file:
            file.write(data)
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data), **more}
    descriptors = [blob(data, "layer.v1.tar") for data in layers]
    root = {"type": "layers", "diff_ids": [d["digest"] for d in descriptors]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": root}).encode()
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": blob(config, "config.v1+json"), "layers": descriptors}
    named = blob(json.dumps(manifest).encode(), "manifest.v1+json",
                 annotations={"org.opencontainers.image.ref.name": "it"})
    with open(f"{name}/index.json", "w") as file:
        json.dump({"schemaVersion": 2, "manifests": [named]}, file)
    with open(f"{name}/oci-layout", "w") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)
    files = [f"{number}.tar" for number in range(len(layers))]
    with tarfile.open(f"{name}.tar", "w") as archive:
        put(archive, "config.json", config)
        for file, data in zip(files, layers):
            put(archive, file, data)
        entry = {"Config": "config.json", "RepoTags": ["image:it"], "Layers": files}
        put(archive, "manifest.json", json.dumps([entry]).encode())

image("file-anew", layer(("d/", ""), ("d/f", "old")), layer(("d/", ""), ("d/.wh.f", ""), ("d/f", "new")))
image("folder-anew", layer(("d/", ""), ("d/f", "old")), layer((".wh.d", ""), ("d/", ""), ("d/g", "new")))
image("file-first", layer(("d/", ""), ("d/f", "old")), layer(("d/", ""), ("d/f", "new"), ("d/.wh.f", "")))
image("link-target-removed", layer(("a", "one"), ("b", "link to a")), layer((".wh.a", "")))
image("link-target-replaced", layer(("a", "one"), ("b", "link to a")), layer(("a", "two")))
EOF
python3 images.py

for name in file-anew folder-anew file-first link-target-removed link-target-replaced; do
    mkdir "$name.crane"
    bin/crane export - - < "$name.tar" > flat.tar
    tar -C "$name.crane" -xf flat.tar 2> /dev/null && note= || note=" (tar: an error)"
    bin/umoci unpack --rootless --image "$name:it" "$name.umoci" > /dev/null 2>&1
    files() { (cd "$1" && find . -type f | sort | while read -r f; do echo -n "${f#./}=$(< "$f") "; done); }
    printf '%-20s | %-14s| %s\n' "$name" "$(files "$name.umoci/rootfs")" "$(files "$name.crane")$note"
done > table

echo "Versions: crane (go-containerregistry) v0.22.1, umoci v0.5.0, $(go version)"
cat <<'EOF'

Images of two layers:
    file-anew             d/f=old            then  d/.wh.f, d/f=new      (rm d/f; echo new > d/f)
    folder-anew           d/f=old            then  .wh.d, d/, d/g=new    (rm -r d; mkdir d; echo new > d/g)
    file-first            d/f=old            then  d/f=new, d/.wh.f      (as file-anew, in the other order)
    link-target-removed   a=one, b links a   then  .wh.a
    link-target-replaced  a=one, b links a   then  a=two

Expected: the same files from both. The OCI image specification, "Image Layer Filesystem Changeset", says that
whiteouts apply to lower layers only, that files of the layer that holds the whiteout can be hidden by later layers
only, and that whiteouts should stand before their siblings (as in file-anew). A layer that removes or replaces one
name of a file leaves the other name with the content it had.

EOF
{ printf '%-20s | %-14s| %s\n' image 'umoci unpack' 'crane export, then tar -x'; cat table; } | sed 's/^/    /'
cat <<'EOF'

What happens: crane reads layers from the top down and remembers removed names at once, within the same layer too.
In the order that the specification recommends, new files vanish; in the other they stay. Hard links are written as
they stood in their layer: without target, or tied to the upper layer's file.
EOF
cat > seen <<'EOF'
file-anew            | d/f=new       | 
folder-anew          | d/g=new       | 
file-first           | d/f=new       | d/f=new 
link-target-removed  | b=one         |  (tar: an error)
link-target-replaced | a=two b=one   | a=two b=two 
EOF
diff seen table || { echo "CHANGED: this is not what was seen before."; exit 1; }
