package session

import (
	"context"
	"errors"
	"testing"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
	"github.com/govmi/govmi/xen/xentest"
)

// A session ends when its domain is to be saved, and tells that from any other end.
func TestServeSaved(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(d *xentest.Domain, cancel func())
		want error
	}{
		{"saved", func(d *xentest.Domain, _ func()) { d.RequestShutdown("suspend") }, errSaved},
		{"canceled", func(_ *xentest.Domain, cancel func()) { cancel() }, context.Canceled},
		{"destroyed", func(d *xentest.Domain, _ func()) { d.Destroy() }, xen.ErrNoDomain},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := xentest.New(nil)
			fake := x.AddDomain(&xentest.DomainConfig{ID: 1})
			h, err := xen.Open(x.Options())
			if err != nil {
				t.Fatal(err)
			}
			d, err := h.Domain(1)
			if err != nil {
				t.Fatal(err)
			}
			m, err := d.OpenMonitor(nil)
			if err != nil {
				t.Fatal(err)
			}
			s := &Session{Dom: d, Mon: m, Loop: vmi.NewLoop(m)}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			served := s.Serve(ctx)
			tc.end(fake, cancel)
			if err := <-served; !errors.Is(err, tc.want) || errors.Is(err, errSaved) != (tc.want == errSaved) {
				t.Errorf("%v, want %v", err, tc.want)
			}
			if err := errors.Join(m.Close(), h.Close(), x.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}
