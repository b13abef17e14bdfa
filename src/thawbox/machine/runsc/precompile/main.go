// Command precompile prints filters.go: the seccomp filters that runsc needs for Thawbox, compiled.
//
// It takes the rules and the compiler of gVisor, which compiles each filter twice to find where the values go that are
// known only at run time (a process id, a file descriptor).
package main

import (
	"fmt"
	"log"
	"maps"
	"slices"
	_ "unsafe" // go:linkname

	"gvisor.dev/gvisor/pkg/seccomp"
	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	"gvisor.dev/gvisor/pkg/sentry/platform"
	_ "gvisor.dev/gvisor/pkg/sentry/platform/systrap"
	sentry "gvisor.dev/gvisor/runsc/boot/filter/config"
	gofer "gvisor.dev/gvisor/runsc/fsgofer/filter/config"
)

// What gVisor exports compiles the filters of all its options, which takes a minute.

//go:linkname sentryRules gvisor.dev/gvisor/runsc/boot/filter/config.rules
func sentryRules(sentry.Options, precompiledseccomp.Values) (allowed, denied seccomp.SyscallRules)

//go:linkname goferRules gvisor.dev/gvisor/runsc/fsgofer/filter/config.rules
func goferRules(gofer.Options, precompiledseccomp.Values) (allowed, denied seccomp.SyscallRules)

type rules func(precompiledseccomp.Values) (allowed, denied seccomp.SyscallRules)

func main() {
	systrap, err := platform.Lookup("systrap")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print("package main\n\nimport \"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp\"\n\n")
	fmt.Print("var sentryFilters = []precompiledseccomp.Program{\n")
	for _, info := range systrap.PrecompiledSeccompInfo() {
		options := sentry.Options{Platform: info}
		printFilter(options.ConfigKey(), options.Vars(), sentry.SeccompOptions(options),
			func(values precompiledseccomp.Values) (allowed, denied seccomp.SyscallRules) {
				return sentryRules(options, values)
			})
	}
	fmt.Print("}\n\nvar goferFilters = []precompiledseccomp.Program{\n")
	for _, lisafs := range []bool{false, true} {
		options := gofer.Options{LisafsNeeded: lisafs}
		printFilter(options.ConfigKey(), options.Vars(), seccomp.ProgramOptions{},
			func(values precompiledseccomp.Values) (allowed, denied seccomp.SyscallRules) {
				return goferRules(options, values)
			})
	}
	fmt.Print("}\n")
}

func printFilter(key string, values precompiledseccomp.Values, options seccomp.ProgramOptions, of rules) {
	names := slices.Sorted(maps.Keys(values))
	filter, err := precompiledseccomp.Precompile(key, names, func(values precompiledseccomp.Values) *seccomp.Program {
		allowed, denied := of(values)
		return &seccomp.Program{
			RuleSets: []seccomp.RuleSet{{Rules: denied.Copy()}, {Rules: allowed.Copy(), Action: seccomp.Allow}},
			Options:  options,
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("\t%s,\n", filter.Expr("\t", "precompiledseccomp"))
}
