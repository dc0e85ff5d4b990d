# Says to the vendor which role this stack has made, and proves that this account
# says so: the signature lets AWS STS name who made it, and does nothing else.
import hashlib, hmac, json, secrets, signal, time
from http.client import HTTPConnection, HTTPSConnection
from urllib.parse import urlsplit
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.session import get_session


def send(method, url, body, kind):
    to = urlsplit(url)
    connect = HTTPSConnection if to.scheme == 'https' else HTTPConnection
    connection = connect(to.netloc, timeout=18)
    path = (to.path or '/') + ('?' + to.query if to.query else '')
    connection.request(method, path, body, {'Content-Type': kind})
    answer = connection.getresponse()
    return answer.status, answer.read(300).decode(errors='replace').strip()


def announce(event):
    p = event['ResourceProperties']
    text = json.dumps({'receiver': p['Url'], 'stackId': event['StackId'], 'roleArn': p['RoleArn'],
        'profile': p['Profile'], 'policyVersion': p['PolicyVersion'], 'nonce': secrets.token_hex(16)})
    digest = hashlib.sha256(text.encode()).hexdigest()
    request = AWSRequest('POST', 'https://' + p['Sts'] + '/', {'X-Biplane-Announcement': digest,
        'Content-Type': 'application/x-www-form-urlencoded'}, 'Action=GetCallerIdentity&Version=2011-06-15')
    SigV4Auth(get_session().get_credentials(), 'sts', event['StackId'].split(':')[3]).add_auth(request)
    return send('POST', p['Url'], json.dumps({'announcement': text,
        'mac': hmac.new(p['ExternalId'].encode(), digest.encode(), 'sha256').hexdigest(),
        'authorization': request.headers['Authorization'],
        'date': request.headers['X-Amz-Date'],
        'token': request.headers['X-Amz-Security-Token']}), 'application/json')


def late(*_):
    raise TimeoutError('no answer in time')


def handler(event, context):
    said = 'nothing announced'
    signal.signal(signal.SIGALRM, late)
    for pause in (2, 8, 0) if event['RequestType'] != 'Delete' else ():
        signal.alarm(20)
        try:
            code, answer = announce(event)
            said = f'{code} {answer}'
            if code < 500:
                break
        except Exception as e:
            said = f'not announced: {e!r}'[:300]
        signal.alarm(0)
        time.sleep(pause)
    signal.alarm(0)
    # The role is as good without the announcement, so that never fails the stack.
    send('PUT', event['ResponseURL'], json.dumps({'Status': 'SUCCESS', 'Data': {'Status': said},
        'PhysicalResourceId': event['LogicalResourceId'], 'StackId': event['StackId'],
        'RequestId': event['RequestId'], 'LogicalResourceId': event['LogicalResourceId']}), '')
