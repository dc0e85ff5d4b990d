package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/step"
)

// UpgradeSteps are those that bring a cluster to the next minor version of Kubernetes,
// in EKS's order, one after the other: what EKS has found against it, the control plane,
// the add-ons, the node groups. A run that was killed is finished by the same steps,
// since each looks which version its thing has. force goes on where EKS has found
// errors. Errors that are not AWS's are *usererr.Error.
func UpgradeSteps(ctx context.Context, p *plane.Plane, to string, force bool) ([]step.Step, error) {
	if minor(to) < 0 || "1."+strconv.Itoa(minor(to)) != to {
		return nil, usererr.New(usererr.Invalid, "%q is no Kubernetes version of EKS", to).WithHint(`write it as 1.35, without a patch`)
	}
	u := &upgrade{cluster: &cluster{Plane: p, Spec: p.Spec}, to: to, force: force}
	out, err := p.AWS.EKS.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: aws.String(p.ClusterName())})
	if fault.Gone(err) {
		return nil, usererr.New(usererr.NotFound, "there is no cluster %s", p.ClusterName()).WithHint("'biplane dataplane apply FILE' makes it")
	}
	if err != nil {
		return nil, err
	}
	switch have := aws.ToString(out.Cluster.Version); {
	case minor(to) < minor(have):
		return nil, usererr.New(usererr.Refused, "the cluster has Kubernetes %s, and it is never taken back to %s", have, to).
			WithHint("build another data plane with the older version, if you need one")
	case minor(to) > minor(have)+1:
		return nil, usererr.New(usererr.Refused, "the cluster has Kubernetes %s, and EKS goes one minor version at a time, not to %s", have, to).
			WithHint("run the same command with --kubernetes 1.%d first", minor(have)+1)
	}
	steps := []*upgradeStep{u.readiness(), u.controlPlane()}
	for _, a := range addonTable {
		steps = append(steps, u.addon(a.name))
	}
	for _, g := range p.Spec.Cluster.NodeGroups {
		steps = append(steps, u.nodeGroup(g.Name))
	}
	var all []step.Step
	for i, s := range steps {
		if i > 0 {
			s.needs = []string{steps[i-1].name} // EKS's order
		}
		all = append(all, s)
	}
	return all, nil
}

type upgrade struct {
	*cluster
	to    string
	force bool
}

// upgradeStep brings one thing to its version.
type upgradeStep struct {
	name  string
	needs []string
	about step.Description
	// look says what would be done, and how: begin starts an update and returns its id. A
	// thing that is at work is begun once it is at rest.
	look func(ctx context.Context) (step.Change, func(ctx context.Context) (*types.Update, error), error)
	// update describes the update that was begun; nil where none is.
	update func(ctx context.Context, id string) (*types.Update, error)

	began string // the update's id
}

func (s *upgradeStep) Name() string               { return s.name }
func (s *upgradeStep) Needs() []string            { return s.needs }
func (s *upgradeStep) Describe() step.Description { return s.about }

type foundUpgrade struct {
	*upgradeStep
	change step.Change
	begin  func(ctx context.Context) (*types.Update, error)
}

func (s *upgradeStep) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	if goal != step.Present {
		return nil, errors.New("an upgrade is not taken back")
	}
	change, begin, err := s.look(ctx)
	return &foundUpgrade{s, change, begin}, err
}

func (f *foundUpgrade) Plan() step.Change { return f.change }

func (f *foundUpgrade) Make(ctx context.Context) error {
	begun, err := f.begin(ctx)
	if err != nil {
		return fault.Passing(err)
	}
	f.began = aws.ToString(begun.Id)
	return nil
}

func (*foundUpgrade) Remove(context.Context) error { return errors.New("an upgrade is not taken back") }

// Check waits until the update has ended, and the thing has the version.
func (s *upgradeStep) Check(ctx context.Context) error {
	if s.began != "" {
		u, err := s.update(ctx, s.began)
		if err != nil {
			return err
		}
		switch u.Status {
		case types.UpdateStatusFailed, types.UpdateStatusCancelled:
			var why []string
			for _, e := range u.Errors {
				why = append(why, fmt.Sprintf("%s: %s", e.ErrorCode, aws.ToString(e.ErrorMessage)))
			}
			return usererr.New(usererr.Refused, "EKS says the update %s: %s", strings.ToLower(string(u.Status)), strings.Join(why, "; ")).
				WithHint("remove the cause and run the same command again; it goes on from there")
		case types.UpdateStatusInProgress:
			return fmt.Errorf("EKS is at work on it: %w", step.ErrNotYet)
		}
	}
	return step.Settled(ctx, s)
}

// waits is for a thing that is at work: it is looked at again until it rests.
func waits(reason string) func(context.Context) (*types.Update, error) {
	return func(context.Context) (*types.Update, error) {
		return nil, fmt.Errorf("%s: %w", reason, step.ErrConflict)
	}
}

func keep(details ...string) step.Change { return step.Change{Action: step.Keep, Details: details} }

func change(what, from, to string) step.Change {
	return step.Change{Action: step.Update, Details: []string{fmt.Sprintf("set %s: %s (it is %s)", what, to, from)}}
}

const readinessTitle = "readiness"

// readiness is what EKS itself has found against the version.
func (u *upgrade) readiness() *upgradeStep {
	return &upgradeStep{name: readinessTitle, about: step.Description{Service: "eks"},
		look: func(ctx context.Context) (step.Change, func(context.Context) (*types.Update, error), error) {
			cl, err := u.describe(ctx)
			if err != nil || aws.ToString(cl.Version) == u.to {
				return keep(), nil, err
			}
			var errs, warnings []string
			pages := eks.NewListInsightsPaginator(u.AWS.EKS, &eks.ListInsightsInput{ClusterName: cl.Name,
				Filter: &types.InsightsFilter{Categories: []types.Category{types.CategoryUpgradeReadiness}, KubernetesVersions: []string{u.to}}})
			for pages.HasMorePages() {
				page, err := pages.NextPage(ctx)
				if err != nil {
					return step.Change{}, nil, err
				}
				for _, i := range page.Insights {
					status := types.InsightStatusValueUnknown
					why := ""
					if i.InsightStatus != nil {
						status, why = i.InsightStatus.Status, aws.ToString(i.InsightStatus.Reason)
					}
					line := fmt.Sprintf("%s: %s: %s", status, aws.ToString(i.Name), why)
					switch status {
					case types.InsightStatusValuePassing:
					case types.InsightStatusValueError:
						errs = append(errs, line)
					default:
						warnings = append(warnings, line)
					}
				}
			}
			if len(errs) > 0 && !u.force {
				return step.Change{Action: step.Refuse, Details: append(errs, warnings...),
					Hint: "put it right ('aws eks list-insights --cluster-name " + aws.ToString(cl.Name) + "' shows when EKS has looked again), or go on regardless with --force"}, nil, nil
			}
			return keep(append(errs, warnings...)...), nil, nil
		}}
}

func (u *upgrade) describe(ctx context.Context) (*types.Cluster, error) {
	out, err := u.AWS.EKS.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: aws.String(u.ClusterName())})
	if err != nil {
		return &types.Cluster{}, err
	}
	return out.Cluster, nil
}

func (u *upgrade) controlPlane() *upgradeStep {
	name := aws.String(u.ClusterName())
	return &upgradeStep{name: "control plane of " + u.ClusterName(),
		about: step.Description{Service: "eks", Updates: []string{"eks:UpdateClusterVersion"}, ToUpdate: 9 * time.Minute, Patience: 90 * time.Minute},
		look: func(ctx context.Context) (step.Change, func(context.Context) (*types.Update, error), error) {
			cl, err := u.describe(ctx)
			if err != nil {
				return step.Change{}, nil, err
			}
			todo := change("version", aws.ToString(cl.Version), u.to)
			switch {
			case cl.Status == types.ClusterStatusUpdating:
				return todo, waits("the cluster is UPDATING"), nil
			case cl.Status != types.ClusterStatusActive:
				return step.Change{Action: step.Refuse, Details: []string{fmt.Sprintf("the cluster is %s%s", cl.Status, issues(cl.Health))},
					Hint: "run 'biplane dataplane check FILE' to see what is wrong with it"}, nil, nil
			case aws.ToString(cl.Version) == u.to:
				return keep(), nil, nil
			}
			return todo, func(ctx context.Context) (*types.Update, error) {
				out, err := u.AWS.EKS.UpdateClusterVersion(ctx, &eks.UpdateClusterVersionInput{Name: name, Version: &u.to, Force: u.force})
				if err != nil {
					return nil, err
				}
				return out.Update, nil
			}, nil
		},
		update: func(ctx context.Context, id string) (*types.Update, error) {
			return u.describeUpdate(ctx, &eks.DescribeUpdateInput{Name: name, UpdateId: &id})
		}}
}

func (u *upgrade) describeUpdate(ctx context.Context, in *eks.DescribeUpdateInput) (*types.Update, error) {
	out, err := u.AWS.EKS.DescribeUpdate(ctx, in)
	if err != nil {
		return nil, err
	}
	return out.Update, nil
}

// addon brings an add-on to the version that EKS takes by itself for the new Kubernetes.
// One that somebody brought further, and that fits, stays.
func (u *upgrade) addon(addon string) *upgradeStep {
	name := aws.String(u.ClusterName())
	return &upgradeStep{name: addonTitle(addon),
		about: step.Description{Service: "eks", Updates: []string{"eks:UpdateAddon"}, ToUpdate: 40 * time.Second, Patience: 30 * time.Minute},
		look: func(ctx context.Context) (step.Change, func(context.Context) (*types.Update, error), error) {
			out, err := u.AWS.EKS.DescribeAddon(ctx, &eks.DescribeAddonInput{ClusterName: name, AddonName: &addon})
			if fault.Gone(err) {
				return keep("it is not installed; 'biplane dataplane apply FILE' installs it"), nil, nil
			}
			if err != nil {
				return step.Change{}, nil, err
			}
			have := aws.ToString(out.Addon.AddonVersion)
			standard, fits, err := u.addonFor(ctx, addon, have)
			if err != nil {
				return step.Change{}, nil, err
			}
			todo := change("version", have, standard)
			switch out.Addon.Status {
			case types.AddonStatusUpdating, types.AddonStatusCreating:
				return todo, waits(fmt.Sprintf("the add-on is %s", out.Addon.Status)), nil
			case types.AddonStatusDeleting:
				return keep("it is being removed"), nil, nil
			}
			if have == standard || fits && newer(have, standard) {
				return keep(), nil, nil
			}
			return todo, func(ctx context.Context) (*types.Update, error) {
				// What somebody set in the cluster stays.
				out, err := u.AWS.EKS.UpdateAddon(ctx, &eks.UpdateAddonInput{ClusterName: name, AddonName: &addon, AddonVersion: &standard, ResolveConflicts: types.ResolveConflictsPreserve})
				if err != nil {
					return nil, err
				}
				return out.Update, nil
			}, nil
		},
		update: func(ctx context.Context, id string) (*types.Update, error) {
			return u.describeUpdate(ctx, &eks.DescribeUpdateInput{Name: name, AddonName: &addon, UpdateId: &id})
		}}
}

// addonFor is the version of an add-on that EKS takes by itself, and whether the one
// that is there fits the new Kubernetes, too.
func (u *upgrade) addonFor(ctx context.Context, addon, have string) (standard string, fits bool, err error) {
	standard, err = addonVersion(ctx, u.Plane, addon, u.to)
	if code := fault.Code(err); code == "InvalidParameterException" {
		return "", false, usererr.New(usererr.Refused, "EKS does not know Kubernetes %s: %s", u.to, fault.Text(err)).
			WithHint("'aws eks describe-cluster-versions' lists those there are").Because(err)
	}
	if err != nil || have == standard {
		return standard, true, err
	}
	out, err := u.AWS.EKS.DescribeAddonVersions(ctx, &eks.DescribeAddonVersionsInput{AddonName: &addon, KubernetesVersion: &u.to})
	if err != nil {
		return "", false, err
	}
	for _, a := range out.Addons {
		fits = fits || slices.ContainsFunc(a.AddonVersions, func(v types.AddonVersionInfo) bool { return aws.ToString(v.AddonVersion) == have })
	}
	return standard, fits, nil
}

// newer compares versions of add-ons, v1.21.1-eksbuild.3, number by number.
func newer(a, b string) bool { return slices.Compare(numbers(a), numbers(b)) > 0 }

func numbers(version string) []int {
	var out []int
	for _, word := range strings.FieldsFunc(version, func(r rune) bool { return r < '0' || r > '9' }) {
		n, _ := strconv.Atoi(word)
		out = append(out, n)
	}
	return out
}

func (u *upgrade) nodeGroup(group string) *upgradeStep {
	name := aws.String(u.ClusterName())
	return &upgradeStep{name: nodeGroupTitle(group),
		about: step.Description{Service: "eks", Updates: []string{"eks:UpdateNodegroupVersion"}, ToUpdate: 6 * time.Minute, Patience: 3 * time.Hour},
		look: func(ctx context.Context) (step.Change, func(context.Context) (*types.Update, error), error) {
			out, err := u.AWS.EKS.DescribeNodegroup(ctx, &eks.DescribeNodegroupInput{ClusterName: name, NodegroupName: &group})
			if fault.Gone(err) {
				return keep("it is not there; 'biplane dataplane apply FILE' makes it"), nil, nil
			}
			if err != nil {
				return step.Change{}, nil, err
			}
			have := aws.ToString(out.Nodegroup.Version)
			todo := change("version", have, u.to)
			switch status := out.Nodegroup.Status; status {
			case types.NodegroupStatusUpdating, types.NodegroupStatusCreating:
				return todo, waits(fmt.Sprintf("the node group is %s", status)), nil
			case types.NodegroupStatusActive:
			default:
				why, remedy, err := u.diagnosis(ctx, out.Nodegroup)
				if err != nil {
					return step.Change{}, nil, err
				}
				return step.Change{Action: step.Refuse, Details: []string{fmt.Sprintf("the node group is %s%s", status, why)},
					Hint: cmp.Or(remedy, "run 'biplane dataplane check FILE' to see what else is wrong")}, nil, nil
			}
			if have == u.to {
				return keep(), nil, nil
			}
			return todo, func(ctx context.Context) (*types.Update, error) {
				out, err := u.AWS.EKS.UpdateNodegroupVersion(ctx, &eks.UpdateNodegroupVersionInput{ClusterName: name, NodegroupName: &group, Version: &u.to})
				if err != nil {
					return nil, err
				}
				return out.Update, nil
			}, nil
		},
		update: func(ctx context.Context, id string) (*types.Update, error) {
			return u.describeUpdate(ctx, &eks.DescribeUpdateInput{Name: name, NodegroupName: &group, UpdateId: &id})
		}}
}
