package awsdouble

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestOnce compares what sitecustomize.py gives moto with moto's own.
func TestOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sitecustomize.py"), once, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(python(t), "python"), "-c", `
import importlib, sitecustomize
import moto.backends, moto.core.responses, moto.core.utils
from moto.ec2.models.tags import TagBackend
from moto.ec2.responses import EC2Response

ours = moto.backends.list_of_moto_modules()
assert sorted(importlib.reload(moto.backends).list_of_moto_modules()) == sorted(ours)

names = moto.core.responses.method_names_from_class
assert names(EC2Response) == moto.core.utils.method_names_from_class(EC2Response)
assert names is not moto.core.utils.method_names_from_class

tags = TagBackend()
tags.create_tags(["vpc-1", "vpc-2", "subnet-1"], {"a": "1", "b": "2"})
assert TagBackend.describe_tags is not sitecustomize.describe_all
for filters, want in [(None, 6), ({"resource-id": ["vpc-2"]}, 2), ({"resource-id": ["vpc-1", "subnet-1"], "key": ["a"]}, 2),
                      ({"resource-id": ["vpc-*"]}, 4), ({"resource-id": ["vpc-3"]}, 0), ({"key": ["b"]}, 3)]:
    got = tags.describe_tags(filters)
    assert len(got) == want and got == sitecustomize.describe_all(tags, filters), filters
`)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("got %v: %s", err, out)
	}
}

func TestEmulator(t *testing.T) {
	t.Parallel()
	e, err := NewEmulator(filepath.Join(python(t), "moto_server"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	for i := range 3 {
		d, err := Start(t.Context(), Options{Dir: t.TempDir(), Emulator: e})
		if err != nil {
			t.Fatal(err)
		}
		if got := mustCLI(t, d, "ec2", "describe-vpcs", "--query", "Vpcs[?CidrBlock=='10.9.0.0/16'].VpcId", "--output", "text"); got != "" {
			t.Errorf("double %d: got %s, want it empty", i+1, got)
		}
		mustCLI(t, d, "ec2", "create-vpc", "--cidr-block", "10.9.0.0/16")
		if err := d.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if got := e.moto.runs.Load(); got != 1 {
		t.Errorf("got %d processes, want one", got)
	}
}
