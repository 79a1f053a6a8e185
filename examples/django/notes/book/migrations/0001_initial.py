from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Note",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("title", models.CharField(max_length=120)),
                ("body", models.TextField(max_length=20_000)),
                ("attachment", models.FileField(blank=True, upload_to="attachments/%Y/%m")),
                ("written", models.DateTimeField(auto_now_add=True)),
            ],
            options={"ordering": ("-written", "-pk")},
        ),
    ]
