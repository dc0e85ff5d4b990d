package plane

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// tokenLasts is how long EKS takes a token, less a minute for clocks that differ
// (aws-iam-authenticator, "API authorization from outside a cluster": 15 minutes).
const tokenLasts = 14 * time.Minute

// ClusterToken proves to the cluster's API server who the session is, until expires: a
// signed question to STS of who one is, which the API server puts in our stead. It is
// signed for this cluster alone, and sent by nobody here.
func (p *Plane) ClusterToken(ctx context.Context) (token string, expires time.Time, err error) {
	expires = time.Now().Add(tokenLasts)
	signed, err := sts.NewPresignClient(p.signer).PresignGetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}, func(o *sts.PresignOptions) {
		o.ClientOptions = append(o.ClientOptions, func(o *sts.Options) {
			o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue("x-k8s-aws-id", p.ClusterName()), smithyhttp.SetHeaderValue("X-Amz-Expires", "60"))
		})
	})
	if err != nil {
		return "", expires, fmt.Errorf("signing a token: %w", err)
	}
	return "k8s-aws-v1." + base64.RawURLEncoding.EncodeToString([]byte(signed.URL)), expires, nil
}
