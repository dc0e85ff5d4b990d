package roles

// OverGrant is what an account may do under a shared role that the table does not
// give it.
type OverGrant struct {
	Account string `json:"serviceAccount"`
	Bucket  Bucket `json:"bucket"`
	Table   Rights `json:"table"`  // what it should have
	Shared  Rights `json:"shared"` // what it has
}

// overGranted compares the table with the two roles that accounts share.
func overGranted() []OverGrant {
	var list []OverGrant
	for _, of := range []kind{platform, tasks} {
		var accounts []ServiceAccount
		for _, a := range Table() {
			if a.kind == of {
				accounts = append(accounts, a)
			}
		}
		shared := unionOf(accounts)
		for _, a := range accounts {
			for i, own := range []Right{{Metadata, a.Metadata}, {FastRegistration, a.FastRegistration}} {
				if own.Rights != shared[i].Rights {
					list = append(list, OverGrant{Account: a.Name, Bucket: own.Bucket, Table: own.Rights, Shared: shared[i].Rights})
				}
			}
		}
	}
	return list
}
