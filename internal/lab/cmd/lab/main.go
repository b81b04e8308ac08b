// Command lab boots a real Xen in an emulator and runs programs in its dom0.
//
//	lab run   [flags] -- program args...   boot, run a program in dom0, power off
//	lab test  [flags] -- [go test's flags] packages
//	                                       boot, run the packages' tests with build tag lab in dom0, power off
//	lab exec  [flags] test-binary args...  the runner for go test -exec; $GOVMI_LAB_SOCKET names a running lab
//	lab shell [flags]                      boot and give an interactive shell in dom0
//	lab serve [flags]                      boot and run the jobs of lab run and lab exec in other terminals
//	lab prepare [flags]                    fetch and build all that a boot needs
//
// "lab VERB -h" lists the flags. -lane and -xen say what is booted; the program finds it in $GOVMI_LAB_LANE (vmx or svm) and $GOVMI_LAB_XEN
// (debian, patched, flask, or other).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/govmi/govmi/internal/lab"
	"github.com/govmi/govmi/internal/lab/lane"
)

// exitFailed is the exit status when the lab failed, not the program in it.
const exitFailed = 125

func main() { os.Exit(run(os.Args[1:])) }

var verbs = map[string]func(ctx context.Context, args []string) (int, error){
	"run":     runProgram,
	"test":    goTest,
	"exec":    execTest,
	"shell":   shell,
	"serve":   serve,
	"prepare": prepare,
}

func run(args []string) int {
	if len(args) == 0 || verbs[args[0]] == nil {
		fmt.Fprintln(os.Stderr, "usage: lab run|test|exec|shell|serve|prepare [flags] [args...]")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	defer stop()
	status, err := verbs[args[0]](ctx, args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return 2
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
	}
	return status
}

// bootFlags are common to the verbs that boot.
type bootFlags struct {
	lane  string
	boot  lab.Boot
	quiet bool
	keep  bool
}

func (b *bootFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&b.lane, "lane", "vmx", "`lane`: vmx (Intel, Bochs) or svm (AMD, QEMU)")
	fs.StringVar(&b.boot.Suite, "suite", "bookworm", "Debian `suite` of Xen and its tools")
	fs.StringVar(&b.boot.Xen, "xen", "", "other hypervisor to boot: \"patched\", with the patches of patches/xen, \"flask\", with FLASK and the policy of policy, or the `path` of an image of the suite's version")
	fs.Func("xen-args", "`arguments` added to Xen's command line", func(s string) error {
		b.boot.XenArgs = append(b.boot.XenArgs, strings.Fields(s)...)
		return nil
	})
	fs.Func("guest", "`suite` whose kernel is at hand for guests (repeatable; default bookworm)", func(s string) error {
		b.boot.GuestSuites = append(b.boot.GuestSuites, s)
		return nil
	})
	fs.Func("guest-image", "`image` at hand for guests beside the standard one: compiler (repeatable)", func(s string) error {
		b.boot.GuestImages = append(b.boot.GuestImages, s)
		return nil
	})
	fs.IntVar(&b.boot.CPUs, "cpus", 0, "`number` of physical CPUs (default 2 in lane svm, 1 in vmx)")
	fs.BoolVar(&b.boot.DeviceModel, "device-model", false, "a device model (QEMU) in dom0, for HVM guests")
	fs.BoolVar(&b.quiet, "quiet", false, "no progress lines")
	fs.BoolVar(&b.keep, "keep", false, "keep the machine's files")
}

func (b *bootFlags) progress() func(string) {
	if b.quiet {
		return nil
	}
	start := time.Now()
	return func(s string) { fmt.Fprintf(os.Stderr, "lab: %5.1fs %s\n", time.Since(start).Seconds(), s) }
}

func (b *bootFlags) make(ctx context.Context) (*lab.Machine, error) {
	l, err := lane.Parse(b.lane)
	if err != nil {
		return nil, err
	}
	return lab.Make(ctx, lab.Options{Lane: l, Boot: &b.boot, Progress: b.progress(), Keep: b.keep})
}

func (b *bootFlags) start(ctx context.Context) (*lab.Session, error) {
	m, err := b.make(ctx)
	if err != nil {
		return nil, err
	}
	return m.Start(ctx)
}

// runner is the lab that $GOVMI_LAB_SOCKET names, or one of its own.
func (b *bootFlags) runner(ctx context.Context) (lab.Runner, error) {
	if c := lab.Dial(); c != nil {
		return c, nil
	}
	return b.start(ctx)
}

func prepare(ctx context.Context, args []string) (int, error) {
	fs := flag.NewFlagSet("lab prepare", flag.ContinueOnError)
	var b bootFlags
	b.register(fs)
	refresh := fs.Bool("refresh", false, "look for new versions of Debian's packages")
	if err := fs.Parse(args); err != nil {
		return 2, err
	}
	l, err := lane.Parse(b.lane)
	if err != nil {
		return 2, err
	}
	if *refresh {
		if err := lab.Refresh(ctx, &b.boot); err != nil {
			return 1, err
		}
	}
	if err := lab.Prepare(ctx, l, &b.boot, b.progress()); err != nil {
		return 1, err
	}
	return 0, nil
}

func runProgram(ctx context.Context, args []string) (status int, err error) {
	fs := flag.NewFlagSet("lab run", flag.ContinueOnError)
	var b bootFlags
	b.register(fs)
	files := fs.String("files", "", "comma-separated `files` and folders of this machine to bring into the job's folder")
	out := fs.String("out", "", "`folder` for what the program brings back: stdout, stderr, and what it writes to $GOVMI_LAB_OUT")
	timeout := fs.Duration("timeout", 0, "end the program after this `time` of dom0's clock")
	cached := fs.Bool("cached", false, "do not run again what has ended with status 0 in such a machine, and say the same")
	if err := fs.Parse(args); err != nil {
		return 2, err
	}
	if fs.NArg() == 0 {
		return 2, errors.New("no program; see lab run -h")
	}
	job := &lab.Job{Argv: fs.Args(), Timeout: *timeout, OutDir: *out, Stdout: os.Stdout, Stderr: os.Stderr}
	if job.Files, err = jobFiles(*files); err != nil {
		return 2, err
	}
	if *out != "" {
		if err := os.MkdirAll(*out, 0o755); err != nil {
			return 2, err
		}
	}
	res, err := b.runJob(ctx, job, *cached)
	if err != nil {
		return exitFailed, err
	}
	if res.DroppedOut > 0 {
		fmt.Fprintf(os.Stderr, "lab: %d bytes of output were not shown live; -out keeps all\n", res.DroppedOut)
	}
	if res.Signal != 0 {
		return 128 + res.Signal, fmt.Errorf("the program was killed by signal %d", res.Signal)
	}
	return res.Exit, nil
}

func (b *bootFlags) runJob(ctx context.Context, job *lab.Job, cached bool) (_ *lab.Result, err error) {
	if cached {
		return b.runCached(ctx, job)
	}
	r, err := b.runner(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return r.Run(ctx, job)
}

// jobFiles brings files by their base names, and folders with what is below.
func jobFiles(list string) ([]lab.File, error) {
	var files []lab.File
	for _, p := range strings.Split(list, ",") {
		if p == "" {
			continue
		}
		fi, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		if !fi.IsDir() {
			files = append(files, lab.File{Name: filepath.Base(p), Source: p})
			continue
		}
		tree, err := lab.Tree(p, filepath.Base(p))
		if err != nil {
			return nil, err
		}
		files = append(files, tree...)
	}
	return files, nil
}
