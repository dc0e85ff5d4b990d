package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/access/template"
)

// links is what --output json and yaml print.
type links struct {
	TemplateURL string `json:"templateUrl"`
	SHA256      string `json:"sha256"` // of the template that has to be there
	Links       []link `json:"links"`
}

type link struct {
	Region string `json:"region"`
	URL    string `json:"url"`
}

func (a *app) accessLinks() *cobra.Command {
	var set setFlags
	var templateURL, announceURL string
	cmd := &cobra.Command{
		Use:   "links",
		Short: "Print the links that open CloudFormation with everything filled in",
		Long: `Print the quick-create link of each region: it opens CloudFormation in the console
of whoever follows it, with template, stack name and parameters filled in. Nothing
is made before that person has looked and pressed "Create stack".

The template is where the vendor profile says that it is published (templateUrl),
or at --template-url. Nothing is asked of AWS: that the template is there, and is
the one whose SHA-256 is printed, is up to whoever publishes it.`,
		Example: `  # For the six regions of the published page
  biplane access links --template-url https://BUCKET.s3.amazonaws.com/access.json

  # For one customer, in another region
  biplane access links --region ap-southeast-2 --external-id "$ID" -o json | jq -r '.links[].url'`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			if set.externalID != "" {
				if err := access.CheckExternalID(set.externalID); err != nil {
					return err
				}
			}
			if err := checkAnnounceURL(announceURL); err != nil {
				return err
			}
			names, err := a.vendor()
			if err != nil {
				return err
			}
			made, err := a.template(&set)
			if err != nil {
				return err
			}
			if templateURL == "" {
				templateURL = made.PublishedURL(names)
			}
			regions := template.LinkRegions
			if a.aws.region != "" { // as typed: a variable for other commands is no wish for one link
				if err := checkRegion(a.aws.region); err != nil {
					return err
				}
				regions = []string{a.aws.region}
			}
			result := links{TemplateURL: templateURL, SHA256: made.SHA256(template.JSON)}
			for _, name := range regions {
				region, _ := access.LookUpRegion(name)
				if err := template.CheckURL(templateURL, region); err != nil {
					return err
				}
				result.Links = append(result.Links, link{Region: name, URL: template.Link{
					Region: region, TemplateURL: templateURL, StackName: names.StackName, RoleName: names.RoleName, ExternalID: set.externalID, AnnounceURL: announceURL,
				}.String()})
			}
			fmt.Fprintf(a.Err, "note: the template at %s must have the SHA-256 %s, as 'biplane access template' prints it\n", templateURL, result.SHA256)
			return a.print(result, func(w io.Writer) {
				fmt.Fprintf(w, "REGION\tLINK\n")
				for _, l := range result.Links {
					fmt.Fprintf(w, "%s\t%s\n", l.Region, l.URL)
				}
			})
		},
	}
	set.add(cmd)
	set.addExternalID(cmd, "the customer's external ID, filled in (default: left to be typed)")
	addAnnounceURL(cmd, &announceURL)
	cmd.Flags().StringVar(&templateURL, "template-url", "", "https address of the template in S3 (default: the vendor profile's templateUrl, and the version behind it)")
	return cmd
}
