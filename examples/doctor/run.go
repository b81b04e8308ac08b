package main

import (
	"context"
	"errors"
	"io"

	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/xen"
)

// Exit statuses, see the command's documentation.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitHost
	exitDomain
)

const usage = `usage: doctor [-domain NAME|ID] [-json]

Says what introspection this Xen host and its domains allow, and what to change
for more. Runs as root in dom0. Status 0: all can be introspected; 1: it could
not find out; 2: wrong command line; 3: the host cannot; 4: a domain cannot.

`

func run(ctx context.Context, x *xen.Options, args []string, stdout, stderr io.Writer) int {
	f := session.NewCommand("doctor", usage, stderr)
	domain := f.String("domain", "", "look at this domain, by `name or id`, instead of at all")
	asJSON := f.Bool("json", false, "print JSON instead of a table")
	if err := f.Parse(args); err != nil {
		return session.Status("doctor", err, stderr)
	}
	r, err := diagnose(ctx, x, *domain)
	if err == nil {
		err = r.print(stdout, *asJSON)
	}
	if err != nil {
		return session.Status("doctor", err, stderr)
	}
	return r.status()
}

// diagnose looks at the host and at one domain, or at all but dom0 if domain is
// empty.
func diagnose(ctx context.Context, x *xen.Options, domain string) (r *report, err error) {
	r = &report{Domains: []domainReport{}}
	h, err := xen.Open(x)
	if err != nil {
		r.Host = append(r.Host, refused("access", err))
		return r, nil
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	r.Host = host(h)
	if domain != "" {
		d, err := h.LookupDomain(domain)
		switch {
		case errors.Is(err, xen.ErrPermission): // that is what is asked for
			r.Domains = append(r.Domains, denied(domain, err))
		case err != nil:
			return nil, err
		default:
			r.Domains = append(r.Domains, examine(d))
		}
		return r, nil
	}
	for info, err := range h.Domains() {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return nil, err
		}
		if info.ID == 0 {
			continue
		}
		d, err := h.Domain(info.ID)
		if errors.Is(err, xen.ErrNoDomain) {
			continue // it went meanwhile
		}
		if err != nil {
			return nil, err
		}
		r.Domains = append(r.Domains, examine(d))
	}
	return r, nil
}
