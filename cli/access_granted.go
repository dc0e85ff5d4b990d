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

// granted reads what the customer's account has granted, and refuses one that has granted
// nothing.
func granted(ctx context.Context, c customer, v *vendor.Profile) (*access.Granted, error) {
	there, err := access.ReadGranted(ctx, c.iam, c.partition, c.account, v)
	if err == nil && there == nil {
		err = nothingGranted(ctx, c, v)
	}
	return there, err
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
	if g.granted, err = granted(ctx, customer, v); err != nil {
		return g, err
	}
	g.set, err = access.Generate(g.granted.Options(customer.account, v))
	return g, err
}
