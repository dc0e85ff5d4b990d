package cli

import (
	"context"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/vendor"
)

// grantedAccount is a customer's account with what it has granted.
type grantedAccount struct {
	customer
	vendor  *vendor.Profile
	granted *access.Granted
	set     *access.Set // that would be granted again
}

// grantedSet reads what the account of the credentials has granted, and refuses one that
// has granted nothing.
func (a *app) grantedSet(ctx context.Context, account string) (grantedAccount, error) {
	v, err := a.vendor()
	if err != nil {
		return grantedAccount{}, err
	}
	customer, err := a.customer(ctx, account, v)
	if err != nil {
		return grantedAccount{}, err
	}
	g := grantedAccount{customer: customer, vendor: v}
	if g.granted, err = access.ReadGranted(ctx, customer.iam, customer.partition, customer.account, v); err != nil {
		return g, err
	}
	if g.granted == nil {
		return g, nothingGranted(ctx, customer, v)
	}
	g.set, err = access.Generate(g.granted.Options(customer.account, v))
	return g, err
}
