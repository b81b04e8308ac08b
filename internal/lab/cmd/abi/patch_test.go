package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPublic(t *testing.T) {
	got := public([]string{
		"From x\n---\n a | 1 +\n\ndiff --git a/xen/common/a.c b/xen/common/a.c\n+1\n" +
			"diff --git a/xen/include/public/b.h b/xen/include/public/b.h\n+2\n",
		"From y\n\ndiff --git a/tools/c.h b/tools/c.h\n+3\n",
		"diff --git a/xen/include/public/d.h b/xen/include/public/d.h\n+4",
	})
	want := "diff --git a/xen/include/public/b.h b/xen/include/public/b.h\n+2\n\n" +
		"diff --git a/xen/include/public/d.h b/xen/include/public/d.h\n+4\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
