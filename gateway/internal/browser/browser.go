// Package browser drives a headless Chromium in tests.
package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	chromium "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// waiting bounds what a step waits for: reached only when something is broken.
const waiting = 20 * time.Second

// browserTimeout bounds a whole test in the browser, which is slow to start on a busy machine.
const browserTimeout = 90 * time.Second

// New starts a headless Chromium. Where there is none the test is skipped, but fails on a continuous integration,
// which is there to test.
func New(t *testing.T) context.Context {
	t.Helper()
	var program string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			program = found
			break
		}
	}
	if program == "" {
		const missing = "NOT TESTED: no Chromium found (for example: apt-get install chromium)"
		if os.Getenv("CI") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	ctx, cancel := context.WithTimeout(context.Background(), browserTimeout)
	t.Cleanup(cancel)
	options := append([]chromedp.ExecAllocatorOption{}, chromedp.DefaultExecAllocatorOptions[:]...)
	options = append(options,
		chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1200, 800),
		chromedp.WSURLReadTimeout(browserTimeout), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("proxy-server", "direct://"))
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	err := chromedp.Listen(ctx, func(ev any) {
		if thrown, ok := ev.(*runtime.EventExceptionThrown); ok {
			t.Errorf("the page threw: %+v", thrown.ExceptionDetails)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = chromedp.Cancel(ctx) }) // waits for the process, before the folder goes
	return ctx
}

// Step is one thing that is done in the browser.
type Step = chromedp.Action[chromedp.Void]

func Do(ctx context.Context, t *testing.T, steps ...Step) {
	t.Helper()
	for i, s := range steps {
		if err := chromedp.Do(ctx, s); err != nil {
			text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`)) // what there is
			t.Fatalf("step %d: %v; the page says:\n%s", i, err, text)
		}
	}
}

// Becomes waits until an expression is true in the page.
func Becomes(format string, args ...any) Step {
	return chromedp.Poll[chromedp.Void](fmt.Sprintf(format, args...), chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(waiting))
}

// Picture keeps a screenshot, in the folder ARTIFACTS if the environment names one.
func Picture(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	Do(ctx, t, Becomes(`document.getAnimations().every(a => a.playState === "finished")`))
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if len(png) < 5_000 {
		t.Error("the screenshot is of an empty page")
	}
	dir := os.Getenv("ARTIFACTS")
	if dir == "" {
		dir = t.TempDir()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name+".png")
	if err := os.WriteFile(path, png, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Log("screenshot:", path)
}

// Theme is what the system prefers.
func Theme(name string) Step {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
		})
		return err
	})
}

// Clipboard lets pages use the clipboard, which Chromium has for itself when it is headless.
func Clipboard() Step {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		for _, name := range []string{"clipboard-read", "clipboard-write"} {
			_, err := cdp.Call(ctx, target, chromium.SetPermission, chromium.SetPermissionParams{
				Permission: &chromium.PermissionDescriptor{Name: name}, Setting: chromium.PermissionSettingGranted,
			})
			if err != nil {
				return err
			}
		}
		_, err := cdp.Call(ctx, target, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
		return err
	})
}
