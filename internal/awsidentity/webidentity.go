package awsidentity

func (c *call) assumeRoleWithWebIdentity() (any, error) { return nil, errInvalid("to come") }
