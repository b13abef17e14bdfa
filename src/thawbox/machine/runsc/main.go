// Command runsc is gVisor's runsc with its seccomp filters compiled beforehand, as gVisor's own releases have them.
//
// The Go module of gVisor comes without them, and every sandbox then compiles its filter when it starts or thaws: 17 ms
// and 4 MB of heap. The filters are in filters.go, which ./precompile writes from gVisor's own rules before this is
// built (machine/runsc_build.py).
package main

import (
	_ "unsafe" // go:linkname

	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	sentry "gvisor.dev/gvisor/runsc/boot/filter"
	"gvisor.dev/gvisor/runsc/cli/maincli"
	gofer "gvisor.dev/gvisor/runsc/fsgofer/filter"
	"gvisor.dev/gvisor/runsc/version"
)

// The build sets version.version, which has to be linked in for that.
var _ = version.Version()

// Where gVisor looks a filter up by its options; what is not there it compiles.

//go:linkname sentryPrograms gvisor.dev/gvisor/runsc/boot/filter.precompiledPrograms
var sentryPrograms map[string]precompiledseccomp.Program

//go:linkname goferPrograms gvisor.dev/gvisor/runsc/fsgofer/filter.precompiledPrograms
var goferPrograms map[string]precompiledseccomp.Program

func main() {
	sentry.ListPrecompiled() // makes the map
	for _, filter := range sentryFilters {
		sentryPrograms[filter.Name] = filter
	}
	gofer.ListPrecompiled()
	for _, filter := range goferFilters {
		goferPrograms[filter.Name] = filter
	}
	maincli.Main()
}
