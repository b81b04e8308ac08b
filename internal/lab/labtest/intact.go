package labtest

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"
)

// sums are checksums of the kernel text of guests, by name, before any test of
// this process did anything to it.
var sums struct {
	sync.Mutex
	of map[string]string
}

// Intact checks, at the test's end, that the guest's kernel text is byte for byte
// as it was before the first test that asked for this, by the guest's own word.
func Intact(tb testing.TB, g *Guest) {
	tb.Helper()
	sums.Lock()
	before := sums.of[g.Name()]
	sums.Unlock()
	if before == "" {
		before = textSum(tb, g)
		sums.Lock()
		if sums.of == nil {
			sums.of = map[string]string{}
		}
		sums.of[g.Name()] = before
		sums.Unlock()
	}
	tb.Cleanup(func() {
		if after := textSum(tb, g); after != before {
			tb.Errorf("kernel text %s, before %s", after, before)
		}
	})
}

// textSum asks the guest for the checksum.
func textSum(tb testing.TB, g *Guest) string {
	tb.Helper()
	const patience = 3 * time.Minute
	ctx, cancel := context.WithTimeout(context.Background(), patience) // also after the test's end
	defer cancel()
	out, status, err := g.Guest.Exec(ctx, "workload textsum")
	if err != nil || status != 0 || !strings.Contains(out, "crc32c=") {
		tb.Errorf("textsum: status %d, %v: %s", status, err, out)
	}
	return strings.TrimSpace(out)
}
