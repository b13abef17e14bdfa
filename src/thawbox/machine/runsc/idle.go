package main

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"time"
)

const (
	lookEvery = 3 * time.Second
	quiet     = 64 << 10
	worth     = 1 << 20
)

// A sandbox that has nothing to do keeps what the work before left on the heap of its kernel and of its gofer until the
// collector's next turn, up to two minutes later, and longer still what the collector has freed. Here it goes back to
// the machine as soon as there is a pause: less than quiet bytes allocated between two looks, and more than worth since
// the last time. Of the thaw alone that is one megabyte.
func init() {
	if slices.Contains(os.Args, "boot") || slices.Contains(os.Args, "gofer") {
		go giveBackWhenIdle()
	}
}

func giveBackWhenIdle() {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	var before, given uint64
	for {
		time.Sleep(lookEvery)
		metrics.Read(sample)
		allocated := sample[0].Value.Uint64()
		if allocated-before < quiet && allocated-given > worth {
			debug.FreeOSMemory()
			given = allocated
		}
		before = allocated
	}
}
