import boto3

client = boto3.client("sts", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y")
print(sorted(client.meta.service_model.operation_names)[:3])
