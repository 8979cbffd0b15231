# What the command line is told: `terraform output -raw store`. Schedules on Vertex AI are made by bertline itself.
output "store" {
  description = "The store of artifacts, for --store."
  value       = "gs://${google_storage_bucket.artifacts.name}/${local.store}"
}

output "pipeline_root" {
  description = "Where Vertex AI keeps its pointers."
  value       = "gs://${google_storage_bucket.artifacts.name}/${var.prefix}/pipeline_root"
}

output "temp_location" {
  description = "Dataflow's temporary and staged files; a rule of the bucket deletes them."
  value       = "gs://${google_storage_bucket.artifacts.name}/${var.prefix}/tmp"
}

output "image" {
  description = "The images, without a tag."
  value       = "${local.registry}/bertline-python"
}

output "images" {
  description = "The image of each target: BERTLINE_IMAGE is one of cpu, accelerator-cuda13 and accelerator-tpu."
  value = {
    for target in ["compile", "dataflow", "cpu", "accelerator-cuda13", "accelerator-tpu", "serve"] :
    target => "${local.registry}/bertline-python:${target}-${var.image_version}"
  }
}

output "pipelines" {
  description = "The registry of compiled pipelines."
  value       = "https://${var.region}-kfp.pkg.dev/${var.project}/${google_artifact_registry_repository.pipelines.repository_id}"
}

output "service_accounts" {
  description = "Duty => the account's address."
  value       = { for key, account in google_service_account.this : key => account.email }
}

output "kustomize_settings" {
  description = "The content of infra/kustomize/components/settings/settings.env."
  value       = <<-EOT
    IMAGE=${local.registry}/bertline-python
    SERVICE_ACCOUNT_DOMAIN=${var.project}.iam.gserviceaccount.com
  EOT
}

output "cluster" {
  description = "The command that makes kubectl speak to the cluster; empty where there is none."
  value       = var.cluster ? "gcloud container clusters get-credentials bertline --region ${var.region} --project ${var.project}" : ""
}

locals {
  registry = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}
